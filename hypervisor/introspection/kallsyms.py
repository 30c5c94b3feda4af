# SPDX-License-Identifier: Apache-2.0
"""The kernel's own table of symbols, found in its image and not by any address.

Sources: Linux ``scripts/kallsyms.c`` and ``kernel/kallsyms.c``, in the layouts of 6.1 (addresses before the names)
and of 6.4 and later (addresses at the end). What the table says is the guest's word: that it is one table is checked,
that it is true is not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from hypervisor.errors import KernelMissing

MAX_SYMBOLS = 1_000_000
MAX_NAME = 512
"""Characters of a symbol; the kernel's KSYM_NAME_LEN."""
MAX_TRIES = 64
"""Places that may look like a table."""
MAX_PLACES = 16
"""Places whose names are followed to their end."""
MAX_BYTES = 32 * 1024 * 1024
"""Of names and what lies between them and the tokens."""
BLOCK = 256
"""Symbols between two markers."""

_DIGITS = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00"
_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the parts are in the image."""

    names: int
    count: int
    offsets: int


@dataclass(frozen=True, slots=True)
class _Table:
    tokens: tuple[bytes, ...]
    place: _Place


def find_symbols(image: bytes, base: int, wanted: frozenset[str]) -> dict[str, int]:
    """Addresses of some symbols; those that the table has not are left out.

    Args:
        image: the kernel as it is mapped.
        base: the virtual address of its first byte.
        wanted: names.

    Raises:
        KernelMissing: there is no table, or it contradicts itself.
    """
    at = image.find(_DIGITS)
    for _ in range(MAX_TRIES):
        if at < 0:
            break
        table = _table(image, base, at)
        if table is not None:
            return _resolve(image, base, table, wanted)
        at = image.find(_DIGITS, at + 1)
    raise _missing("no table of symbols was found")


def _table(image: bytes, base: int, digits: int) -> _Table | None:
    """The table around the tokens of the ten digits, or None where that is not one."""
    start = digits
    # The tokens of 0x00 to 0x2f come before, each with a zero behind it.
    for _ in range(ord("0")):
        start = image.rfind(b"\0", max(0, start - 1 - MAX_NAME), start - 1) + 1
        if start <= 0:
            return None
    tokens, at = [], start
    for _ in range(_TOKENS):
        end = image.find(b"\0", at, at + MAX_NAME)
        if end < 0:
            return None
        tokens.append(image[at:end])
        at = end + 1
    index = -(-at // 8) * 8
    if index + 2 * _TOKENS > len(image):
        return None
    offset = 0
    for number, found in enumerate(struct.unpack_from(f"<{_TOKENS}H", image, index)):
        if found != offset:
            return None
        offset += len(tokens[number]) + 1
    behind = -(-(index + 2 * _TOKENS) // 8) * 8
    for place in islice(_tables(image, base, start, behind), MAX_PLACES):
        if _fits(image, place, start):
            return _Table(tuple(tokens), place)
    return None


def _tables(image: bytes, base: int, tokens_at: int, behind: int) -> Iterator[_Place]:
    """Where the names can begin. The address that all others are relative to is the image's first, and leads there."""
    low = max(0, tokens_at - MAX_BYTES)
    for at in _aligned(image, struct.pack("<Q", base), low, tokens_at - 16):
        # 6.1: offsets, that address, count, names, markers, tokens.
        (count,) = struct.unpack_from("<Q", image, at + 8)
        if 0 < count <= MAX_SYMBOLS and at >= 4 * count:
            yield _Place(names=at + 16, count=count, offsets=at - -(-4 * count // 8) * 8)
    for at in _aligned(image, struct.pack("<Q", base), behind, min(len(image), behind + 4 * MAX_SYMBOLS)):
        # 6.4: count, names, markers, tokens, offsets, that address.
        most = (at - behind) // 4
        for count in (most, most - 1):
            for found in _aligned(image, struct.pack("<Q", count), low, tokens_at):
                yield _Place(names=found + 8, count=count, offsets=behind)


def _aligned(image: bytes, word: bytes, low: int, high: int) -> Iterator[int]:
    at = image.find(word, low, high)
    while at >= 0:
        if at % 8 == 0:
            yield at
        at = image.find(word, at + 1, high)


def _fits(image: bytes, place: _Place, tokens_at: int) -> bool:
    """Whether behind the names lie the markers that they make: the offset of each 256th."""
    markers: list[int] = []
    at = place.names
    for number in range(place.count):
        if number % BLOCK == 0:
            markers.append(at - place.names)
        length, size = _length(image, at)
        at += size + length
        if not length or at > tokens_at:
            return False
    at = -(-at // 8) * 8
    return image[at : at + 4 * len(markers)] == struct.pack(f"<{len(markers)}I", *markers)


def _length(image: bytes, at: int) -> tuple[int, int]:
    """How many tokens a name has, and the bytes that say so; no tokens where it is cut off."""
    if at + 2 > len(image):
        return 0, 1
    first = image[at]
    return (first & 0x7F | image[at + 1] << 7, 2) if first & 0x80 else (first, 1)


def _resolve(image: bytes, base: int, table: _Table, wanted: frozenset[str]) -> dict[str, int]:
    names = {name.encode(): name for name in wanted}
    longest = max(map(len, names), default=0) + 1
    found: dict[str, int] = {}
    at = table.place.names
    for number in range(table.place.count):
        length, size = _length(image, at)
        at += size
        spelled = b"".join([table.tokens[token] for token in image[at : at + min(length, longest)]])
        at += length
        # The first character is the symbol's type.
        name = names.get(spelled[1:])
        if name is not None:
            (offset,) = struct.unpack_from("<i", image, table.place.offsets + 4 * number)
            # As kallsyms_sym_address() with CONFIG_KALLSYMS_ABSOLUTE_PERCPU.
            found.setdefault(name, offset if offset >= 0 else base - 1 - offset)
    return found


def _missing(cause: str) -> KernelMissing:
    return KernelMissing(
        "the kernel's symbols were not read", cause=cause, remedy="is the guest a Linux with kallsyms?"
    )
