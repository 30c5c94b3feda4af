# SPDX-License-Identifier: Apache-2.0
"""What an ELF program or library is linked with.

Source: System V ABI, chapters 4 (ELF header), 5 (program header, dynamic section). Read as the loader reads it: by
program headers, not by sections. Pure. This module does not look for the libraries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = b"\x7fELF"
MAX_ELF: Final = 256 * 1024**2
"""Bytes of a program or library."""

MAX_ENTRIES: Final = 4096
"""Of the dynamic section."""

MAX_NAME: Final = 4096
"""Bytes of a name in it."""

X86_64: Final = 62
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS, _RPATH, _RUNPATH = 0, 1, 5, 15, 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """What a program or library asks the loader for.

    Attributes:
        needed: names of libraries.
        first: folders where they are looked for before all others (DT_RPATH), as written.
        last: folders where they are looked for after those that the loader was told (DT_RUNPATH), as written.
    """

    needed: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


def read_linked(untrusted_bytes: bytes) -> Linked | None:
    """What a file is linked with; None if it is no ELF file for this machine: firmware may be one for another.

    Raises:
        ValueError: damaged.
    """
    if not untrusted_bytes.startswith(MAGIC):
        return None
    form, order = _take(untrusted_bytes, "<4xBB", 0)
    if (form, order) != (2, 1):
        return None
    machine, table, size, count = _take(untrusted_bytes, "<18xH12xQ14xHH", 0)
    if machine != X86_64:
        return None
    if size != 56:
        raise ValueError("has program headers of another size")
    segments = [_take(untrusted_bytes, "<I4xQQ8xQ", table + size * number) for number in range(count)]
    loaded = [segment[1:] for segment in segments if segment[0] == _LOAD]
    dynamic = [segment[1:] for segment in segments if segment[0] == _DYNAMIC]
    if not dynamic:
        return Linked()
    entries = list(_entries(untrusted_bytes, *dynamic[0]))
    strings = [value for tag, value in entries if tag == _STRINGS]
    if not strings:
        return Linked()
    start = _offset(loaded, strings[0])
    names = {tag: [] for tag in (_NEEDED, _RPATH, _RUNPATH)}  # type: dict[int, list[str]]
    for tag, value in entries:
        if tag in names:
            names[tag].append(_name(untrusted_bytes, start + value))
    return Linked(
        needed=tuple(names[_NEEDED]),
        first=tuple(folder for path in names[_RPATH] for folder in path.split(":")),
        last=tuple(folder for path in names[_RUNPATH] for folder in path.split(":")),
    )


def _take(data: bytes, layout: str, start: int) -> tuple[Any, ...]:
    if start + struct.calcsize(layout) > len(data):
        raise ValueError("ends within its headers")
    return struct.unpack_from(layout, data, start)


def _entries(data: bytes, start: int, _address: int, length: int) -> Iterator[tuple[int, int]]:
    """The dynamic section, up to its end mark."""
    for number in range(min(length // 16, MAX_ENTRIES)):
        tag, value = _take(data, "<qQ", start + 16 * number)
        if tag == _END:
            return
        yield tag, value
    raise ValueError("has a dynamic section without an end")


def _offset(loaded: list[tuple[Any, ...]], wanted: int) -> int:
    """Where in the file that is which will be at an address."""
    for start, address, length in loaded:
        if address <= wanted < address + length:
            return int(start + wanted - address)
    raise ValueError("has names at an address that holds nothing")


def _name(data: bytes, start: int) -> str:
    end = data.find(b"\0", start, start + MAX_NAME)
    if end < 0:
        raise ValueError("has a name without an end")
    return data[start:end].decode("utf-8", "surrogateescape")
