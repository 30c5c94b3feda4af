# SPDX-License-Identifier: Apache-2.0
"""IMA measurement lists of the Linux kernel, ASCII and binary: read, and replayed to the PCR values that they claim.

Source: the kernel's Documentation/security/IMA-templates.rst and security/integrity/ima (ima_fs.c, ima_template_lib.c,
ima_crypto.c). Each entry's template digest is computed again from its fields, so no digest or name can be altered
unseen. A replay must still be compared with a verified quote, as the last entries of a list can be left out.

This module does not judge files, signatures or keys, and does no I/O. Binary lists are read little-endian, the form of
all machines that vmgate runs on. Kernels before 5.8 padded the SHA-1 digest with zeros into the other banks; on them
only the sha1 bank replays.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from measure.formats.cursor import Bounds, Cursor, refused
from measure.pcr import ALGORITHMS, PCRS, digest_size

BOUNDS: Final = Bounds(octets=128 * 1024 * 1024, events=1_000_000)
"""A list of a busy host has some 10,000 entries of 100 to 300 bytes."""

_WHAT: Final = "IMA list"
_ORIGINAL: Final = "ima"
_ORIGINAL_NAME: Final = 256
_BY_SIZE: Final = MappingProxyType({digest_size(alg): alg for alg in ALGORITHMS})
_FILE_DIGESTS: Final = MappingProxyType({alg.encode(): digest_size(alg) for alg in ("md5", *ALGORITHMS)})
_LONGEST_TEMPLATE: Final = 128
_TEMPLATES_KEPT: Final = 32  # a list uses two or three, 100,000 times
_FILE_FIELDS: Final = MappingProxyType({"ima-ng": 2, "ima-sig": 3})
_TEMPLATE: Final = re.compile(rb"[a-z0-9][a-z0-9|_-]*")
_U32: Final = struct.Struct("<I").unpack_from
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")


class ImaEntry(NamedTuple):
    """One entry. A tuple and no data class, because lists have 100,000 of them.

    Attributes:
        pcr: index of the register, 10 unless the kernel's policy says otherwise.
        template: name of the template, or its fields joined by ``|``.
        digest: template digest as recorded: all zeros is a violation (a file was open for writing while it was
            measured), and any other was compared with the hash of ``data``.
        data: the bytes that each bank hashes. Untrusted in a violation, where no digest covers them.
    """

    pcr: int
    template: str
    digest: bytes
    data: bytes

    @property
    def violation(self) -> bool:
        """Whether the kernel could not vouch for what it measured."""
        return not any(self.digest)


class ImaFile(NamedTuple):
    """The file that an entry is about. A tuple for the same reason.

    Attributes:
        name: its path as the kernel saw it, one character a byte (Latin-1); another word such as ``boot_aggregate``
            where the kernel measured something else.
        alg: hash of the digest, such as ``sha256``.
        digest: of the whole file.
    """

    name: str
    alg: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaList:
    """A list that is well-formed and agrees with itself; nothing more is known of it.

    Attributes:
        ascii: whether it was the ASCII form.
        alg: the hash of its template digests, ``sha1`` but for the lists that newer kernels keep for each bank.
        entries: in order; never empty.
    """

    ascii: bool
    alg: str
    entries: tuple[ImaEntry, ...]


def parse_ima(untrusted: bytes) -> ImaList:
    """Read a list of either form, with template digests of SHA-1, SHA-256, SHA-384 or SHA-512.

    Raises:
        LogRefused: empty, over ``BOUNDS``, cut off, malformed, or with an entry whose digest is not that of its fields.
            In ASCII also a template with fields that are not known here, as they cannot be hashed again.
    """
    cursor = Cursor(untrusted, _WHAT, BOUNDS)
    # A binary list starts with the PCR's index as four bytes, and no TPM has a PCR 32 (space) or 48 (digit 0).
    is_ascii = untrusted[:1] in b" 0123456789"
    read = _read_ascii if is_ascii else _read_binary
    alg, entries = read(cursor)
    return ImaList(ascii=is_ascii, alg=alg, entries=entries)


def replay(log: ImaList, algs: Iterable[str] = tuple(ALGORITHMS)) -> dict[str, dict[int, bytes]]:
    """The values after all entries, by bank and index, of the PCRs that were extended. They start at zero.

    A violation extends ones (ima_queue.c), so that no list can replay to the same value without it.
    """
    pcrs: dict[str, dict[int, bytes]] = {}
    for alg in algs:
        hashed = getattr(hashlib, alg)  # looked up once, not for each entry
        zero, ones = bytes(digest_size(alg)), b"\xff" * digest_size(alg)
        values = pcrs[alg] = {}
        for entry in log.entries:
            digest = ones if entry.violation else hashed(entry.data).digest()
            values[entry.pcr] = hashed(values.get(entry.pcr, zero) + digest).digest()
    return pcrs


def file_of(entry: ImaEntry) -> ImaFile:
    """The file of an entry of template ``ima-ng`` or ``ima-sig``. A violation's is what the list's writer chose.

    The template's name is covered by no digest. In all of the kernel's own templates, the first apart, these two fields
    come first, so another name cannot make them say something else.

    Raises:
        LogRefused: another template, fields that are not in its form, or a hash that is not known here.
    """
    data = entry.data
    fields = _FILE_FIELDS.get(entry.template)
    try:
        # Each field is a length of four bytes and as many bytes; the last one must end with the data.
        name_at = 4 + _U32(data)[0]
        end = name_at + 4 + _U32(data, name_at)[0]
        name = data[name_at + 4 : end]
        if fields == 3:
            end += 4 + _U32(data, end)[0]
    except struct.error as error:
        raise refused(_WHAT, "the fields of an entry are cut off") from error
    if fields is None or end != len(data) or not name or name.find(b"\0") != len(name) - 1:
        raise refused(_WHAT, f"an entry of template {entry.template} does not name a file in its form")
    alg, _, digest = data[4:name_at].partition(b":\0")
    if _FILE_DIGESTS.get(alg) != len(digest):
        raise refused(_WHAT, "the digest of a file is of a hash that is not known, or not of its size")
    return ImaFile(name[:-1].decode("latin-1"), alg.decode("ascii"), digest)


def _entry(pcr: int, template: str, digest: bytes, data: bytes, alg: str) -> ImaEntry:
    """Put an entry together, and compare its digest with its data.

    Raises:
        ValueError: with what is wrong; the callers know where.
    """
    if pcr >= PCRS:
        raise ValueError(f"PCR {pcr} is extended, which no TPM has")
    if getattr(hashlib, alg)(data).digest() != digest and any(digest):
        raise ValueError("the template digest is not the hash of the fields")
    return ImaEntry(pcr, template, digest, data)


@lru_cache(maxsize=_TEMPLATES_KEPT)
def _template_name(untrusted_name: bytes) -> str:
    if len(untrusted_name) > _LONGEST_TEMPLATE or not _TEMPLATE.fullmatch(untrusted_name):
        raise ValueError("the template's name is malformed")
    return untrusted_name.decode("ascii")


# Binary form


def _read_binary(cursor: Cursor) -> tuple[str, tuple[ImaEntry, ...]]:
    alg = _find_alg(cursor)
    entries: list[ImaEntry] = []
    while cursor.left():
        if len(entries) == BOUNDS.events:
            raise cursor.refused(f"it has more than {BOUNDS.events} entries")
        try:
            entries.append(_read_binary_entry(cursor, alg))
        except ValueError as error:
            raise cursor.refused(f"entry {len(entries)}: {error}") from error
    return alg, tuple(entries)


def _find_alg(cursor: Cursor) -> str:
    """The hash of the template digests. Nothing in a list names it, but the template's name stands right behind."""
    start = cursor.offset
    for size, alg in _BY_SIZE.items():
        if cursor.left() < 4 + size + 4:
            break
        cursor.take(4 + size)
        length = cursor.u32()
        fits = length <= min(_LONGEST_TEMPLATE, cursor.left()) and bool(_TEMPLATE.fullmatch(cursor.take(length)))
        cursor.offset = start
        if fits:
            return alg
    raise cursor.refused("its first entry has no template name where one should be")


def _read_binary_entry(cursor: Cursor, alg: str) -> ImaEntry:
    pcr = cursor.u32()
    digest = cursor.take(digest_size(alg))
    template = _template_name(cursor.block())
    if template == _ORIGINAL:
        file_digest = cursor.take(20)
        data = _original(file_digest, cursor.block())
    else:
        data = cursor.block()
    return _entry(pcr, template, digest, data, alg)


# ASCII form


def _read_ascii(cursor: Cursor) -> tuple[str, tuple[ImaEntry, ...]]:
    lines = cursor.take(cursor.left()).split(b"\n", BOUNDS.events)
    if lines.pop():
        raise refused(_WHAT, f"its last line has no end, or it has more than {BOUNDS.events} entries")
    alg = ""
    entries: list[ImaEntry] = []
    for number, line in enumerate(lines):
        try:
            entry = _read_line(line)
            if alg and len(entry.digest) != digest_size(alg):
                raise ValueError("its template digest has another length than those before")
        except ValueError as error:
            raise refused(_WHAT, f"entry {number}: {error}") from error
        alg = alg or _BY_SIZE[len(entry.digest)]
        entries.append(entry)
    return alg, tuple(entries)


def _read_line(untrusted_line: bytes) -> ImaEntry:
    """An entry: index, template digest, template name and fields, each behind one space. Fields hold no space."""
    # The index is padded to two places.
    parts = untrusted_line.removeprefix(b" ").split(b" ")
    if len(parts) < 4:
        raise ValueError("it has no fields")
    index, hexadecimal, template, *fields = parts
    digest = _hex(hexadecimal)
    alg = _BY_SIZE.get(len(digest))
    if alg is None:
        raise ValueError(f"its template digest has {len(digest)} bytes")
    name = _template_name(template)
    return _entry(_number(index), name, digest, _template_data(name, fields), alg)


def _template_data(template: str, fields: list[bytes]) -> bytes:
    """The bytes that the kernel hashed, from what it printed."""
    encoders = _encoders(template)
    if len(encoders) != len(fields):
        raise ValueError(f"it has {len(fields)} fields and its template {len(encoders)}")
    if template == _ORIGINAL:
        return _original(_hex(fields[0]), fields[1])
    values = [encode(field) for encode, field in zip(encoders, fields, strict=True)]
    return b"".join([len(value).to_bytes(4, "little") + value for value in values])


@lru_cache(maxsize=_TEMPLATES_KEPT)
def _encoders(template: str) -> tuple[Callable[[bytes], bytes], ...]:
    names = _TEMPLATES.get(template, template).split("|")
    if not _FIELDS.keys() >= set(names):
        raise ValueError("its template has fields that are not known")
    return tuple(_FIELDS[name] for name in names)


def _original(file_digest: bytes, name: bytes) -> bytes:
    """What the first template hashes: no lengths, and the name padded to a fixed size."""
    if len(file_digest) != 20 or len(name) >= _ORIGINAL_NAME:
        raise ValueError("a field is too long or too short")
    return file_digest + name.ljust(_ORIGINAL_NAME, b"\0")


def _hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        raise ValueError("a field is not hexadecimal") from None


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("a field is not a number")
    return int(text)


def _named_digest(text: bytes) -> bytes:
    """``sha256:...`` or ``verity:sha256:...``; empty where the file has no such digest."""
    if not text:
        return b""
    name, colon, digest = text.rpartition(b":")
    if not colon:
        raise ValueError("a digest does not name its hash")
    return name + b":\0" + _hex(digest)


def _text(text: bytes) -> bytes:
    return text + b"\0"


def _text_or_nothing(text: bytes) -> bytes:
    return text and text + b"\0"


def _unsigned(size: int) -> Callable[[bytes], bytes]:
    def encode(text: bytes) -> bytes:
        number = _number(text) if text else None
        if number is not None and number >= 1 << 8 * size:
            raise ValueError("a number is too large")
        return b"" if number is None else number.to_bytes(size, "little")

    return encode


_TEMPLATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        _ORIGINAL: "d|n",
        "ima-ng": "d-ng|n-ng",
        "ima-ngv2": "d-ngv2|n-ng",
        "ima-sig": "d-ng|n-ng|sig",
        "ima-sigv2": "d-ngv2|n-ng|sig",
        "ima-buf": "d-ng|n-ng|buf",
        "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
        "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    }
)
"""The kernel's own templates; any other name is its fields, joined in the same way."""

_FIELDS: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        "d": _hex,
        "n": _text,
        "d-ng": _named_digest,
        "d-ngv2": _named_digest,
        "n-ng": _text,
        "sig": _hex,
        "buf": _hex,
        "d-modsig": _named_digest,
        "modsig": _hex,
        "evmsig": _hex,
        "xattrnames": _text_or_nothing,
        "xattrlengths": _hex,
        "xattrvalues": _hex,
        "iuid": _unsigned(4),
        "igid": _unsigned(4),
        "imode": _unsigned(2),
    }
)
"""How a printed field is turned back into the bytes that were hashed."""
