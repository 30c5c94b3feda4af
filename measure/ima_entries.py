# SPDX-License-Identifier: Apache-2.0
"""What an entry of an IMA list is about: a file, or a buffer that the kernel took in; and the aggregate of the boot.

Source: the kernel's security/integrity/ima (ima_template_lib.c, ima_main.c process_buffer_measurement, ima_crypto.c
ima_calc_boot_aggregate). ``measure.ima`` has compared each entry's digest with its data; only a violation's data is
what the list's writer chose. The name of a template is covered by no digest: here another name can only make an entry
be refused, as the number of fields and their forms tell the kernel's templates apart. This module does not judge.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from measure.errors import LogRefused
from measure.formats.cursor import refused
from measure.formats.ima_fields import ORIGINAL, ORIGINAL_DIGEST, ORIGINAL_NAME, TEMPLATES
from measure.ima import WHAT, ImaEntry
from measure.pcr import ALGORITHMS, digest_size

AGGREGATE: Final = "boot_aggregate"
"""The name of the first entry: a digest over the PCRs of the boot, which ties the list to it."""

_AGGREGATED: Final = 10
_AGGREGATED_SHA1: Final = 8
_DIGESTS: Final = MappingProxyType({alg.encode(): digest_size(alg) for alg in ("md5", *ALGORITHMS)})
# A digest of the second form names what it is of: the file's bytes, or the fs-verity descriptor.
_KINDS: Final = MappingProxyType({b"ima": False, b"verity": True})
_BUFFER: Final = "ima-buf"
_FIELDS_OF_FILES: Final = MappingProxyType(
    {
        name: (len(fields.split("|")), fields.startswith("d-ngv2|"))
        for name, fields in TEMPLATES.items()
        if name not in {ORIGINAL, _BUFFER}
    }
)
_U32: Final = struct.Struct("<I").unpack_from
_new: Final = tuple.__new__


class ImaFile(NamedTuple):
    """The file that an entry is about. A tuple, because lists have 100,000 of them.

    Attributes:
        name: its path as the kernel saw it, one character a byte (Latin-1); another word such as ``boot_aggregate``
            where the kernel measured something else.
        alg: hash of the digest, such as ``sha256``.
        digest: of the whole file.
        verity: the digest is the file's fs-verity digest, and not the hash of its bytes.
    """

    name: str
    alg: str
    digest: bytes
    verity: bool = False


class ImaBuffer(NamedTuple):
    """What the kernel took in that is no file.

    Attributes:
        name: what it was for: ``kexec-cmdline``, the keyring that a key was added to (``.ima``), a label of critical
            data; one character a byte (Latin-1).
        alg: hash of the digest.
        digest: of the content.
        content: the bytes; their hash was compared with the digest.
    """

    name: str
    alg: str
    digest: bytes
    content: bytes


def file_of(entry: ImaEntry) -> ImaFile:
    """The file of an entry of any of the kernel's templates but ``ima-buf``.

    Raises:
        LogRefused: another template, fields that are not in its form, or a hash that is not known here.
    """
    known = _FIELDS_OF_FILES.get(entry.template)
    if known is None:
        if entry.template == ORIGINAL:
            return _original_file(entry.data)
        raise _not_in_form(entry)
    count, second = known
    name, alg, digest, end = _named(entry)
    data = entry.data
    try:
        for _ in range(count - 2):
            end += 4 + _U32(data, end)[0]
    except struct.error as error:
        raise _cut_off() from error
    if end != len(data):
        raise _not_in_form(entry)
    verity = False
    if second:
        kind, _, alg = alg.partition(b":")
        if kind not in _KINDS:
            raise _not_in_form(entry)
        verity = _KINDS[kind]
    if _DIGESTS.get(alg) != len(digest):
        raise refused(WHAT, "the digest of a file is of a hash that is not known, or not of its size")
    return _new(ImaFile, (name, alg.decode("ascii"), digest, verity))


def buffer_of(entry: ImaEntry) -> ImaBuffer:
    """The buffer of an entry of template ``ima-buf``.

    Raises:
        LogRefused: another template, a violation, fields that are not in its form, or a digest that is not the
            content's.
    """
    if entry.template != _BUFFER or entry.violation:
        raise refused(WHAT, f"an entry of template {entry.template} does not hold a buffer")
    name, alg, digest, end = _named(entry)
    content = entry.data[end + 4 :]
    if len(entry.data) < end + 4 or _U32(entry.data, end)[0] != len(content):
        raise _cut_off()
    if alg not in _DIGESTS or hashlib.new(alg.decode("ascii"), content, usedforsecurity=False).digest() != digest:
        raise refused(WHAT, "the digest of a buffer is not that of its content")
    return ImaBuffer(name, alg.decode("ascii"), digest, content)


def boot_aggregate(alg: str, values: Mapping[int, bytes]) -> bytes:
    """The digest that a list starts with: over PCR 0 to 9 of the bank, or 0 to 7 of the SHA-1 bank (Linux 5.8).

    Args:
        alg: the bank, and the hash.
        values: of the boot, by index; one that is missing is a bug.
    """
    last = _AGGREGATED_SHA1 if alg == "sha1" else _AGGREGATED
    return hashlib.new(alg, b"".join(values[index] for index in range(last))).digest()


def verify_boot_aggregate(first: ImaEntry, alg: str, values: Mapping[int, bytes]) -> None:
    """Require that a list is of the boot with these values: its first entry is their aggregate.

    Args:
        first: the first entry of the list.
        alg: the bank of the values. The kernel takes the bank of its own hash (``ima_hash=``), so another is refused.
        values: PCR 0 to 9 of the boot, by index.

    Raises:
        LogRefused: it is not, or not in that hash.
    """
    if first.violation:
        raise refused(WHAT, "it starts with a violation")
    file = file_of(first)
    if (file.name, file.alg, file.verity) != (AGGREGATE, alg, False):
        raise refused(WHAT, f"it does not start with {AGGREGATE} in {alg}")
    if file.digest != boot_aggregate(alg, values):
        raise refused(WHAT, f"it is of another boot: it starts with {AGGREGATE} {alg}:{file.digest.hex()}")


def _named(entry: ImaEntry) -> tuple[str, bytes, bytes, int]:
    """The first two fields, a digest with its hash's name and a name with its NUL; and where they end."""
    data = entry.data
    try:
        # Each field is a length of four bytes and as many bytes; what is behind its end is never looked at.
        name_at = 4 + _U32(data)[0]
        end = name_at + 4 + _U32(data, name_at)[0]
    except struct.error as error:
        raise _cut_off() from error
    name = data[name_at + 4 : end]
    if end > len(data) or not name or name.find(b"\0") != len(name) - 1:
        raise _not_in_form(entry)
    alg, _, digest = data[4:name_at].partition(b":\0")
    return name[:-1].decode("latin-1"), alg, digest, end


def _original_file(data: bytes) -> ImaFile:
    """The first template: a SHA-1 digest and a name, padded with zeros."""
    name = data[ORIGINAL_DIGEST:].rstrip(b"\0")
    if len(data) != ORIGINAL_DIGEST + ORIGINAL_NAME or not name or b"\0" in name:
        raise refused(WHAT, f"an entry of template {ORIGINAL} does not name a file in its form")
    return ImaFile(name.decode("latin-1"), "sha1", data[:ORIGINAL_DIGEST])


def _cut_off() -> LogRefused:
    return refused(WHAT, "the fields of an entry are cut off")


def _not_in_form(entry: ImaEntry) -> LogRefused:
    return refused(WHAT, f"an entry of template {entry.template} does not name a file in its form")
