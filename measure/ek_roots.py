# SPDX-License-Identifier: Apache-2.0
"""A verifier's own roots: the vendors whom it believes when they say that a TPM is theirs.

A folder with certificates (``.pem``, ``.crt``, ``.cer``, ``.der``) is a folder of chips' roots. One with the folders
``chips`` or ``software`` has each there: what a root of ``software`` vouches for counts as a program, which protects
nothing from its owner. Certificates that issued themselves are roots; others only help to find the way to one. A file
``revoked`` in any of them has one line for each certificate that counts no more: the SHA-256 of its public key
(SubjectPublicKeyInfo), or ``serial ISSUER``: its serial number and the SHA-256 of the issuer's name, all hexadecimal.

This module verifies nothing, and fetches nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from content import durable
from content.errors import ContentError, Missing
from measure.certificate import Certificate, parse_certificate
from measure.errors import CertificateMalformed, RootsUnusable

SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
FILE_LIMIT: Final = 2_000_000
"""Most bytes of one file."""

CERTIFICATES: Final = 5_000
"""Most certificates in all."""

REVOKED: Final = "revoked"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,40000})-----END CERTIFICATE-----")
_REVOKED_KEY = re.compile(r"[0-9a-f]{64}")
_REVOKED_SERIAL = re.compile(r"[0-9a-f]{1,128} [0-9a-f]{64}")


class Roots:
    """What a verifier believes.

    Args:
        chips: certificates of vendors of chips.
        software: certificates of makers of programs. Where a key is in both, it is a program's.
        revoked: lines of the list, without comments.
    """

    def __init__(
        self,
        chips: Iterable[Certificate] = (),
        software: Iterable[Certificate] = (),
        revoked: Iterable[str] = (),
    ) -> None:
        chips, software = tuple(chips), tuple(software)
        self._by_subject: dict[bytes, list[Certificate]] = {}
        for certificate in (*software, *chips):
            named = self._by_subject.setdefault(certificate.subject, [])
            if certificate not in named:
                named.append(certificate)
        self._anchors = {found.raw for found in (*chips, *software) if found.subject == found.issuer}
        self._programs = {found.key_digest for found in software}
        self._revoked = frozenset(map(_line, revoked))
        if not self._anchors:
            raise unusable("there is no certificate in it that issued itself")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder.

        Raises:
            RootsUnusable: it is not there, holds no root, or a file in it cannot be read.
        """
        chips, software = folder / "chips", folder / "software"
        apart = chips.is_dir() or software.is_dir()
        if apart and any(path.suffix in SUFFIXES for path in _files(folder)):
            raise unusable("it has certificates beside its folders `chips` and `software`")
        # In each of the folders: a list that nobody reads would revoke nothing.
        revoked = [line for place in (folder, chips, software) for line in _revoked(place / REVOKED)]
        return cls(_certificates(chips if apart else folder), _certificates(software), revoked)

    def named(self, subject: bytes) -> tuple[Certificate, ...]:
        """The certificates with this subject (DER of the name)."""
        return tuple(self._by_subject.get(subject, ()))

    def trusts(self, certificate: Certificate) -> bool:
        """Whether it is one of the roots."""
        return certificate.raw in self._anchors

    def is_software(self, path: Iterable[Certificate]) -> bool:
        """Whether a key on a path is that of a maker of programs."""
        return any(found.key_digest in self._programs for found in path)

    def revokes(self, certificate: Certificate) -> bool:
        """Whether a certificate counts no more."""
        if not self._revoked:
            return False
        issuer = hashlib.sha256(certificate.issuer).hexdigest()
        serial = _line(f"{certificate.serial.hex() or '0'} {issuer}")
        return not self._revoked.isdisjoint({certificate.key_digest, serial})


def unusable(cause: str) -> RootsUnusable:
    """The error for a folder of roots that cannot be used."""
    return RootsUnusable("the roots of TPM vendors were not read", cause=cause, remedy="put the folder right")


def read_revoked(untrusted: bytes) -> tuple[str, ...]:
    """The lines of a list of revoked certificates; ``#`` begins a comment.

    Raises:
        RootsUnusable: a line is in neither form.
    """
    lines = (line.partition("#")[0].strip().lower() for line in untrusted.decode("utf-8", "replace").splitlines())
    found = tuple(line for line in lines if line)
    for line in found:
        if not _REVOKED_KEY.fullmatch(line) and not _REVOKED_SERIAL.fullmatch(line):
            raise unusable(f"the list of revoked certificates has a line that is none: {line[:80]!r}")
    return found


def read_certificates(untrusted: bytes) -> tuple[Certificate, ...]:
    """The certificates of one file: DER, or PEM with any number of them.

    Raises:
        RootsUnusable: one cannot be read, or there is none.
    """
    try:
        if untrusted.startswith(b"\x30"):
            return (parse_certificate(untrusted),)
        blocks = [b"".join(match[1].split()) for match in _PEM.finditer(untrusted)]
        if not blocks or untrusted.count(b"-----BEGIN ") != len(blocks):
            raise unusable("it is neither one certificate in DER nor a row of certificates in PEM")
        return tuple(parse_certificate(base64.b64decode(block, validate=True)) for block in blocks)
    except (CertificateMalformed, binascii.Error) as error:
        cause = error.cause if isinstance(error, CertificateMalformed) else "it is not base64"
        raise unusable(f"a certificate is not one: {cause}") from error


def _line(text: str) -> str:
    """A line of the list with a serial number that has no leading zeros: programs print it with and without."""
    serial, space, issuer = text.partition(" ")
    return f"{int(serial, 16):x} {issuer}" if space else text


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unusable(f"{folder}: {error.strerror or error}") from error


def _certificates(folder: Path) -> list[Certificate]:
    found: list[Certificate] = []
    for path in _files(folder) if folder.is_dir() else ():
        if path.suffix not in SUFFIXES:
            continue
        try:
            found += read_certificates(durable.read_file(path, FILE_LIMIT))
        except (RootsUnusable, ContentError) as error:
            raise unusable(f"{path.name}: {error.cause}") from error
        if len(found) > CERTIFICATES:
            raise unusable(f"it holds more than {CERTIFICATES} certificates")
    return found


def _revoked(path: Path) -> tuple[str, ...]:
    try:
        return read_revoked(durable.read_file(path, FILE_LIMIT))
    except Missing:
        return ()
