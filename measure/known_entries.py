# SPDX-License-Identifier: Apache-2.0
"""The IMA entries that hosts of a host image show, known before any host is asked: for who judges many of them.

An entry of template ``ima-ng``, or ``ima-sig`` without a signature, follows from a file's path and digest alone. So a
list is mostly taken apart by looking its entries up, bytes for bytes, and only what is not found is parsed and hashed.
What is known comes from the image and never from a host, so that no host can add to it, and its size is bounded.

``KnownEntries.read`` gives what ``parse_ima`` and a replay give, and refuses what they refuse; a list that it cannot
take apart it leaves to them whole. Nothing here says that an entry is good: ``measure.boot_files`` does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from documents.host_image import ImageFile
from measure.boot_files import IMA_PCR
from measure.errors import LogRefused
from measure.ima import BOUNDS, ImaEntry, parse_ima, values_after_each
from measure.pcr import reset_value

TEMPLATES: Final = ((b"ima-ng", 0), (b"ima-sig", 1))
"""Names of templates, and how many empty fields follow a file's digest and name (IMA-templates.rst)."""

MOST_PARSED: Final = 200
"""Entries that are parsed one by one; a list with more unknown ones is quicker parsed as a whole."""

_SHA1_SIZE: Final = 20
_LENGTH: Final = struct.Struct("<I")
_TEMPLATE_AT: Final = 4 + _SHA1_SIZE


class KnownEntries:
    """The entries of some files, by their bytes in a binary list with SHA-1 template digests.

    Args:
        files: of one host image, or of several.
    """

    def __init__(self, files: Iterable[ImageFile] = ()) -> None:
        raw = [entry for file in files for entry in _entries(file)]
        parsed = parse_ima(b"".join(raw)).entries if raw else ()
        self._known = {
            data: (entry, hashlib.sha256(entry.data).digest()) for data, entry in zip(raw, parsed, strict=True)
        }

    def read(self, untrusted: bytes) -> tuple[tuple[ImaEntry, ...], list[bytes]]:
        """The entries of a list, and PCR 10 of the SHA-256 bank after none of them, after one, and so on.

        Args:
            untrusted: a list in either form; empty for none.

        Raises:
            LogRefused: see ``measure.ima.parse_ima``.
        """
        taken = self._take_apart(untrusted) if self._known else None
        if taken is None:
            whole = parse_ima(untrusted) if untrusted else None
            return (whole.entries, values_after_each(whole, "sha256")) if whole else ((), _fold([]))
        return tuple(entry for entry, _ in taken), _fold(taken)

    def _take_apart(self, untrusted: bytes) -> list[tuple[ImaEntry, bytes]] | None:
        """Each entry with what PCR 10 is extended with; None where the list is not made of whole entries.

        Entries end where their own lengths say, so a list that is made of whole entries can be read in no other way.
        """
        read_length, find, end = _LENGTH.unpack_from, self._known.get, len(untrusted)
        if end > BOUNDS.octets:
            return None
        taken: list[tuple[ImaEntry, bytes]] = []
        parsed = at = 0
        try:
            while at < end:
                stop = at + _TEMPLATE_AT + 4 + read_length(untrusted, at + _TEMPLATE_AT)[0]
                stop += 4 + read_length(untrusted, stop)[0]
                untrusted_entry = untrusted[at:stop]
                found = find(untrusted_entry)
                if found is None:
                    parsed += 1
                    found = _parse(untrusted_entry) if parsed <= MOST_PARSED else None
                    if found is None:
                        return None
                taken.append(found)
                at = stop
            if len(taken) > BOUNDS.events:
                return None
        except struct.error:
            return None
        return taken


def _entries(file: ImageFile) -> Iterable[bytes]:
    fields = [b"sha256:\0" + bytes.fromhex(file.sha256), file.path.encode() + b"\0"]
    for name, more in TEMPLATES:
        data = b"".join(_sized(field) for field in (*fields, *[b""] * more))
        yield _LENGTH.pack(IMA_PCR) + hashlib.sha1(data, usedforsecurity=False).digest() + _sized(name) + _sized(data)


def _sized(field: bytes) -> bytes:
    return _LENGTH.pack(len(field)) + field


def _parse(untrusted_entry: bytes) -> tuple[ImaEntry, bytes] | None:
    """One entry that was not known; None where the bytes are not exactly one of a list like those that are."""
    try:
        log = parse_ima(untrusted_entry)
    except LogRefused:
        # The whole list is read once more, for an error that names the place.
        return None
    if log.ascii or log.alg != "sha1" or len(log.entries) != 1:
        return None
    return log.entries[0], _extended(log.entries[0])


def _extended(entry: ImaEntry) -> bytes:
    """What the SHA-256 bank is extended with: ones for a violation, as in ``measure.ima.replay``."""
    return b"\xff" * 32 if entry.violation else hashlib.sha256(entry.data).digest()


def _fold(taken: list[tuple[ImaEntry, bytes]]) -> list[bytes]:
    hashed = hashlib.sha256
    value = reset_value("sha256", IMA_PCR)
    values = [value]
    for _, digest in taken:
        value = hashed(value + digest).digest()
        values.append(value)
    return values
