# SPDX-License-Identifier: Apache-2.0
"""IMA measurement lists of the Linux kernel, ASCII and binary: read, and replayed to the PCR values that they claim.

Source: the kernel's Documentation/security/IMA-templates.rst and security/integrity/ima (ima_fs.c, ima_queue.c,
ima_crypto.c). Each entry's template digest is computed again from its fields, so no digest or name can be altered
unseen. A replay must still be compared with a verified quote, as the last entries of a list can be left out.

This module does not say what an entry is about (``measure.ima_entries``), does not judge, and does no I/O. Binary lists
are read little-endian, the form of all machines that vmgate runs on. Kernels before 5.8 padded the SHA-1 digest with
zeros into the other banks; on them only the sha1 bank replays.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from measure.formats.cursor import Bounds, Cursor, refused
from measure.formats.ima_fields import (
    LONGEST_TEMPLATE,
    ORIGINAL,
    ORIGINAL_DIGEST,
    NotHexadecimal,
    number,
    original,
    template_data,
    template_name,
    unhex,
)
from measure.pcr import ALGORITHMS, PCRS, digest_size

BOUNDS: Final = Bounds(octets=128 * 1024 * 1024, events=1_000_000)
"""A list of a busy host has some 10,000 entries of 100 to 300 bytes."""

WHAT: Final = "IMA list"

_SIZES: Final = MappingProxyType({alg: digest_size(alg) for alg in ALGORITHMS})
_BY_SIZE: Final = MappingProxyType({size: alg for alg, size in _SIZES.items()})
_ORIGINAL: Final = ORIGINAL.encode()
_U32: Final = struct.Struct("<I").unpack_from
_new: Final = tuple.__new__

_KEPT: Final = 16_384
_LARGEST_KEPT: Final = 512
"""How many entries are kept of each form and hash, and bytes of the largest: some 20 MB each, whoever sends what."""

Hash = Callable[[bytes], Any]
T = TypeVar("T")


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
    cursor = Cursor(untrusted, WHAT, BOUNDS)
    # A binary list starts with the PCR's index as four bytes, and no TPM has a PCR 32 (space) or 48 (digit 0).
    is_ascii = untrusted[:1] in b" 0123456789"
    if is_ascii:
        alg, entries = _read_ascii(untrusted)
    else:
        alg = _find_alg(cursor)
        entries = _read_binary(untrusted, alg)
    return ImaList(ascii=is_ascii, alg=alg, entries=tuple(entries))


def replay(log: ImaList, algs: Iterable[str] = tuple(ALGORITHMS)) -> dict[str, dict[int, bytes]]:
    """The values after all entries, by bank and index, of the PCRs that were extended. They start at zero.

    A violation extends ones (ima_queue.c), so that no list can replay to the same value without it.
    """
    pcrs: dict[str, dict[int, bytes]] = {}
    violation = bytes(digest_size(log.alg))
    for alg in algs:
        hashed: Hash = getattr(hashlib, alg)  # looked up once, not for each entry
        zero, ones = bytes(digest_size(alg)), b"\xff" * digest_size(alg)
        values = pcrs[alg] = {}
        for pcr, _, recorded, data in log.entries:
            digest = ones if recorded == violation else hashed(data).digest()
            values[pcr] = hashed(values.get(pcr, zero) + digest).digest()
    return pcrs


def values_after_each(log: ImaList, alg: str) -> list[bytes]:
    """The value of the one PCR of a list after no entry, after one, and so on; a violation extends ones.

    Args:
        log: whose entries are all of one PCR: for who has to find how far a quote reaches.
        alg: the bank.
    """
    hashed: Hash = getattr(hashlib, alg)
    violation, ones = bytes(digest_size(log.alg)), b"\xff" * digest_size(alg)
    value = bytes(digest_size(alg))
    values = [value]
    kept = _room(_DIGESTS[alg])
    for _, _, recorded, data in log.entries:
        if recorded == violation:
            digest = ones
        else:
            digest = kept.get(data) or hashed(data).digest()
            if len(kept) < _KEPT and len(data) <= _LARGEST_KEPT:
                kept[data] = digest
        value = hashed(value + digest).digest()
        values.append(value)
    return values


def _room(kept: dict[bytes, T]) -> dict[bytes, T]:
    """What is known already; nothing, once that was too much."""
    if len(kept) >= _KEPT:
        kept.clear()
    return kept


def _entry(pcr: int, template: str, digest: bytes, data: bytes, alg: str) -> ImaEntry:
    """Put an entry together, and compare its digest with its data.

    Raises:
        ValueError: with what is wrong; the callers know where.
    """
    if pcr >= PCRS:
        raise ValueError(f"PCR {pcr} is extended, which no TPM has")
    if getattr(hashlib, alg)(data).digest() != digest and any(digest):
        raise ValueError("the template digest is not the hash of the fields")
    return _new(ImaEntry, (pcr, template, digest, data))


# Hosts of one image have the same entries: those that were right once are known again by all of their bytes.
_ENTRIES: Final[Mapping[str, dict[bytes, ImaEntry]]] = MappingProxyType({alg: {} for alg in ALGORITHMS})
_LINES: Final[dict[bytes, ImaEntry]] = {}
_DIGESTS: Final[Mapping[str, dict[bytes, bytes]]] = MappingProxyType({alg: {} for alg in ALGORITHMS})


# Binary form


def _find_alg(cursor: Cursor) -> str:
    """The hash of the template digests. Nothing in a list names it, but the template's name stands right behind."""
    start = cursor.offset
    for size, alg in _BY_SIZE.items():
        if cursor.left() < 4 + size + 4:
            break
        cursor.take(4 + size)
        length = cursor.u32()
        try:
            fits = length <= min(LONGEST_TEMPLATE, cursor.left()) and bool(template_name(cursor.take(length)))
        except ValueError:
            fits = False
        cursor.offset = start
        if fits:
            return alg
    raise cursor.refused("its first entry has no template name where one should be")


def _read_binary(untrusted: bytes, alg: str) -> list[ImaEntry]:
    """Every entry. Plain offsets and no cursor, as a verifier does this 100,000 times for each host."""
    head, end = 4 + _SIZES[alg], len(untrusted)
    entries: list[ImaEntry] = []
    kept = _room(_ENTRIES[alg])
    at = 0
    while at < end:
        if len(entries) == BOUNDS.events:
            raise refused(WHAT, f"it has more than {BOUNDS.events} entries")
        try:
            name = at + head + 4
            length = _U32(untrusted, at + head)[0]
            fields = name + length
            # The fields of the first template have no length in front of them but the name's own.
            before = ORIGINAL_DIGEST if length == 3 and untrusted[name:fields] == _ORIGINAL else 0
            stop = fields + before + 4 + _U32(untrusted, fields + before)[0]
            # Sizes are compared with what is there before anything is taken.
            if stop > end:
                raise ValueError(f"{stop - at} bytes should follow and {end - at} are left")
            part = untrusted[at:stop]
            entry = kept.get(part)
            if entry is None:
                entry = _read_binary_entry(part, alg)
                if len(kept) < _KEPT and stop - at <= _LARGEST_KEPT:
                    kept[part] = entry
            entries.append(entry)
            at = stop
        except struct.error as error:
            raise refused(WHAT, f"entry {len(entries)}: it is cut off") from error
        except ValueError as error:
            raise refused(WHAT, f"entry {len(entries)}: {error}") from error
    return entries


def _read_binary_entry(untrusted: bytes, alg: str) -> ImaEntry:
    """One entry, whose lengths are right.

    Raises:
        ValueError: what is wrong with it.
    """
    size = _SIZES[alg]
    fields = 8 + size + _U32(untrusted, 4 + size)[0]
    template = template_name(untrusted[8 + size : fields])
    if template == ORIGINAL:
        data = original(untrusted[fields : fields + ORIGINAL_DIGEST], untrusted[fields + ORIGINAL_DIGEST + 4 :])
    else:
        data = untrusted[fields + 4 :]
    return _entry(_U32(untrusted)[0], template, untrusted[4 : 4 + size], data, alg)


# ASCII form


def _read_ascii(untrusted: bytes) -> tuple[str, list[ImaEntry]]:
    lines = untrusted.split(b"\n", BOUNDS.events)
    if lines.pop():
        raise refused(WHAT, f"its last line has no end, or it has more than {BOUNDS.events} entries")
    entries: list[ImaEntry] = []
    size = 0
    kept = _room(_LINES)
    for line in lines:
        try:
            entry = kept.get(line)
            if entry is None:
                entry = _read_line(line)
                if len(kept) < _KEPT and len(line) <= _LARGEST_KEPT:
                    kept[line] = entry
            if len(entry.digest) != size:
                if size:
                    raise ValueError("its template digest has another length than those before")
                size = len(entry.digest)
            entries.append(entry)
        except NotHexadecimal as error:
            raise refused(WHAT, f"entry {len(entries)}: a field is not hexadecimal") from error
        except ValueError as error:
            cause = str(error) if line.count(b" ") > 2 else "it has no fields"
            raise refused(WHAT, f"entry {len(entries)}: {cause}") from error
    return _BY_SIZE[size], entries


def _read_line(untrusted: bytes) -> ImaEntry:
    """One entry.

    Raises:
        ValueError: what is wrong with it.
    """
    # The index is padded to two places; each part stands behind one space, and fields hold none.
    index, hexadecimal, template, *fields = untrusted.removeprefix(b" ").split(b" ")
    digest = unhex(hexadecimal)
    alg = _BY_SIZE.get(len(digest))
    if alg is None:
        raise ValueError(f"its template digest has {len(digest)} bytes")
    name = template_name(template)
    return _entry(number(index), name, digest, template_data(name, fields), alg)
