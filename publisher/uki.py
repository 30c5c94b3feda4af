# SPDX-License-Identifier: Apache-2.0
"""Reading a signed unified kernel image: what firmware and systemd's stub will measure of it.

Source: Microsoft PE Format (headers, "Calculating the PE Image Hash", "The Attribute Certificate Table"); UEFI 2.10,
32.2; systemd 252, src/boot/efi/stub.c and src/fundamental/tpm-pcr.h. Other stubs measure other sections, so an image
that has another one is refused. So is one that two readers could read differently: sections that overlap or leave gaps.

Pure. This module does not look into the signatures (``sbverify`` does).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from publisher.errors import HostImageWrong

MAX_UKI: Final = 256 * 1024**2
"""Bytes of a kernel image with its initrd."""

MEASURED: Final = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey")
"""What the stub measures, in its order, of what is there (``UnifiedSection``, all but ``.pcrsig``)."""

STUB: Final = ".sdmagic"
STUB_VERSION: Final = re.compile(rb"#### LoaderInfo: systemd-stub 252[. ]")

MAX_SECTIONS: Final = 96
PE32_PLUS: Final = 0x20B
_DIRECTORIES: Final = 112
"""Where the data directories start in the optional header."""

_CERTIFICATES: Final = 4
"""Which of them tells where the attribute certificate table is, by its offset in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uki:
    """A kernel image as a host will measure it. Digests are SHA-256, hexadecimal.

    Attributes:
        boot_application: Authenticode digest of the whole program.
        sections: (name, digest of the content) in the order in which the stub measures them.
        command_line: what ``.cmdline`` holds, without the end of line. Any bytes may be in it.
        signatures: its attribute certificate table, not looked into.
    """

    boot_application: str
    sections: tuple[tuple[str, str], ...]
    command_line: bytes
    signatures: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A row of the section table: bytes ``start`` to ``start + stored`` of the file, ``size`` bytes at ``address``."""

    name: str
    size: int
    address: int
    stored: int
    start: int


def read_uki(untrusted_bytes: bytes, source: Path) -> Uki:
    """Read a kernel image.

    Args:
        untrusted_bytes: the file, at most ``MAX_UKI``.
        source: the file, for messages.

    Raises:
        HostImageWrong: no intact PE32+ program, not signed, ambiguous, or not made with systemd's stub 252.
    """
    data = memoryview(untrusted_bytes)
    if not untrusted_bytes.startswith(b"MZ"):
        raise refused(source, "it is not an EFI program")
    (start,) = _take(data, "<I", 0x3C, source)
    signature, count, length = _take(data, "<4s2xH12xH2x", start, source)
    optional = start + 24
    (magic,) = _take(data, "<H", optional, source)
    if signature != b"PE\0\0" or magic != PE32_PLUS:
        raise refused(source, "it is not a 64-bit EFI program")
    headers, directories = _take(data, "<60xI44xI", optional, source)
    table = optional + length
    if not _CERTIFICATES < directories <= 16 or length != _DIRECTORIES + 8 * directories:
        raise refused(source, "its optional header is not in its form")
    if not 1 <= count <= MAX_SECTIONS or not table + 40 * count <= headers <= len(data):
        raise refused(source, "its section table is not in its form")
    sections = [_section(data, table + 40 * number, source) for number in range(count)]
    entry = optional + _DIRECTORIES + 8 * _CERTIFICATES
    end, size = _take(data, "<II", entry, source)
    if not size:
        raise refused(source, "nobody signed it", "sign it, then describe it")
    if end % 8 or end + size != len(data):
        raise refused(source, "its signatures do not stand at its end")
    _require_unambiguous(sections, headers, end, source)
    digest = hashlib.sha256(data[: optional + 64])
    # Left out: CheckSum, and the entry that tells where the signatures are.
    digest.update(data[optional + 68 : entry])
    digest.update(data[entry + 8 : end])
    contents = dict(_measured(data, sections, source))
    return Uki(
        boot_application=digest.hexdigest(),
        sections=tuple((name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()),
        command_line=_command_line(contents, source),
        signatures=bytes(data[end:]),
    )


def refused(source: Path, cause: str, remedy: str = "build it again") -> HostImageWrong:
    """The error for a file that no host image can be made of."""
    return HostImageWrong("the host image was not described", cause=f"{source}: {cause}", remedy=remedy)


def _take(data: memoryview, layout: str, start: int, source: Path) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, start)
    except struct.error as error:
        raise refused(source, "it ends within its headers") from error


def _section(data: memoryview, start: int, source: Path) -> _Section:
    name, size, address, stored, place = _take(data, "<8sIIII", start, source)
    return _Section(name=name.rstrip(b"\0").decode("latin-1"), size=size, address=address, stored=stored, start=place)


def _require_unambiguous(sections: list[_Section], headers: int, end: int, source: Path) -> None:
    """Refuse sections that share bytes, in the file or in memory, and bytes between them that not all readers hash."""
    place = headers
    for section in sorted((s for s in sections if s.stored), key=lambda s: s.start):
        if section.start != place:
            raise refused(source, f"section {section.name!r} overlaps another or leaves a gap")
        place += section.stored
    if place > end:
        raise refused(source, "its sections reach into its signatures")
    free = headers
    for section in sorted(sections, key=lambda s: s.address):
        if section.address < free:
            raise refused(source, f"section {section.name!r} overlaps another in memory")
        free = section.address + (section.size or section.stored)


def _measured(data: memoryview, sections: list[_Section], source: Path) -> Iterator[tuple[str, memoryview]]:
    """Name and content of what the stub measures, after a look at the stub."""
    stub = _content(data, _called(STUB, sections, source), source)
    if stub is None or not STUB_VERSION.match(stub):
        raise refused(source, "it was not made with systemd's stub 252", "make it with that stub")
    for name in MEASURED:
        content = _content(data, _called(name, sections, source), source)
        if content is not None:
            yield name, content


def _called(name: str, sections: list[_Section], source: Path) -> _Section | None:
    """The section of that name. The stub compares as many characters as its own name has, and takes the last."""
    found = [section for section in sections if section.name.startswith(name)]
    if [section.name for section in found] not in ([], [name]):
        raise refused(source, f"more than {name} is called so, or starts so")
    return found[0] if found else None


def _content(data: memoryview, section: _Section | None, source: Path) -> memoryview | None:
    """What stands in memory where the section is."""
    if section is None:
        return None
    if not 0 < section.size <= section.stored:
        raise refused(source, f"section {section.name} is empty, or larger in memory than in the file")
    return data[section.start : section.start + section.size]


def _command_line(contents: dict[str, memoryview], source: Path) -> bytes:
    if ".cmdline" not in contents:
        raise refused(source, "it has no command line", "build it with one")
    return bytes(contents[".cmdline"]).rstrip(b"\n\0")
