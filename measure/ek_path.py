# SPDX-License-Identifier: Apache-2.0
"""Who vouches for a TPM: the path from the certificate of its endorsement key to a root that the verifier trusts.

Source: TCG EK Credential Profile 2.6, clause 3 (certificates); RFC 5280, section 6 (paths).

What a path must be (the code carries the numbers):
 1. each issuer's subject is, byte for byte, the issuer that the certificate below names;
 2. each signature is over the original bytes, by the issuer's key, with SHA-256 or stronger;
 3. each issuer may issue: basicConstraints say so, keyUsage where there is one has keyCertSign, and no more issuers
    stand below it than it allows;
 4. all, the root and the TPM's own certificate too, are valid at the given time. Many vendors write the year 9999;
    where one has run out nobody answers for the TPM any longer, so it is refused as well;
 5. nothing in it is revoked by the verifier's own list: there is no asking a vendor on a host without a network;
 6. no critical extension is unknown; subject directory attributes and alternative names, which say what the TPM is, are
    known here;
 7. it ends at a root of the verifier, at most ``LENGTH`` certificates away;
and the TPM's own certificate: 8. is no issuer's, and 9. is for an endorsement key, by its extended key usage.

A manufacturer that only makes programs is never a chip's (10). Issuers that the host sends along are as untrusted as
the rest: they only help to find the way. Left to the caller: that the TPM holds the key (``measure.proof``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from measure import der
from measure.certificate import (
    CONSTRAINTS,
    KEY_CERT_SIGN,
    PURPOSES,
    SAN,
    USAGE,
    Certificate,
    names,
    parse_certificate,
    parse_several,
)
from measure.der import oid
from measure.ek_roots import Roots
from measure.errors import CertificateMalformed, CertificateUntrusted

LENGTH: Final = 7
"""Most certificates of a path, both ends included. Five are common; processors that are an authority themselves, with a
key for each stage of their firmware, need more."""

CHAIN: Final = 8
"""Most issuers' certificates that a host may send along."""

SIGNATURES: Final = 32
"""Most signatures that are checked for one path: whoever sends issuers could make many that fit each other."""

EK_PURPOSE: Final = oid("2.23.133.8.1")
"""tcg-kp-EKCertificate."""

_MANUFACTURER: Final = oid("2.23.133.2.1")
_PROGRAMS: Final = frozenset({"id:00001014", "id:49424D00", "id:4D534654", "id:474F4F47", "id:564D5700"})
"""Manufacturers of programs: IBM as swtpm writes it and as TCG lists it, Microsoft's simulator, Google's and VMware's
virtual TPMs. Never a chip, whoever signed it."""

_KNOWN: Final = frozenset({CONSTRAINTS, USAGE, PURPOSES, SAN, oid("2.5.29.9"), oid("2.5.29.32")})
"""Extensions that may be critical: those above, subject directory attributes and certificate policies."""

_ECDSA: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    oid("1.2.840.10045.4.3.2"): hashes.SHA256,
    oid("1.2.840.10045.4.3.3"): hashes.SHA384,
    oid("1.2.840.10045.4.3.4"): hashes.SHA512,
}
_RSASSA: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    oid("1.2.840.113549.1.1.11"): hashes.SHA256,
    oid("1.2.840.113549.1.1.12"): hashes.SHA384,
    oid("1.2.840.113549.1.1.13"): hashes.SHA512,
}
_PSS: Final = oid("1.2.840.113549.1.1.10")
_DIGESTS: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    oid("2.16.840.1.101.3.4.2.1"): hashes.SHA256,
    oid("2.16.840.1.101.3.4.2.2"): hashes.SHA384,
    oid("2.16.840.1.101.3.4.2.3"): hashes.SHA512,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A TPM's certificate for which a root vouches.

    Attributes:
        certificate: of the endorsement key.
        path: from it to the root, both included.
        chip: the root is one of chips, and the manufacturer makes some; else the TPM counts as a program.
        manufacturer: as the certificate says, such as ``id:49465800``; empty where it does not.
    """

    certificate: Certificate
    path: tuple[Certificate, ...]
    chip: bool
    manufacturer: str


def verify_ek_certificate(untrusted: bytes, untrusted_chain: bytes, roots: Roots, time: int) -> Vouched:
    """Verify the certificate of an endorsement key.

    Args:
        untrusted: as it lies in the TPM's memory, at most ``certificate.LIMIT`` bytes.
        untrusted_chain: issuers' certificates one after the other, as the host sent them; empty for none.
        roots: the verifier's.
        time: seconds since 1970 UTC.

    Raises:
        CertificateMalformed: it cannot be read, or the issuers without which there is no path cannot.
        CertificateUntrusted: with the first of the checks above that failed on the way that led furthest.
    """
    leaf = parse_certificate(untrusted)
    chain, broken = _sent_along(untrusted_chain)
    # 8.
    if leaf.authority[0]:
        raise refused("it is an issuer's", "authority")
    # 9.
    if EK_PURPOSE not in leaf.purposes():
        raise refused("it is not for an endorsement key", "purpose")
    try:
        path = _Search(roots, chain, time).path(leaf)
    except CertificateUntrusted as error:
        if broken is not None and error.reason == "issuer":
            raise broken from error
        raise
    makers = [text for kind, text in _attributes(leaf) if kind == _MANUFACTURER]
    return Vouched(certificate=leaf, path=path, chip=_chip(path, makers, roots), manufacturer=", ".join(makers)[:60])


def refused(cause: str, reason: str) -> CertificateUntrusted:
    """The error for a certificate that nobody vouches for; see ``CertificateUntrusted`` for the reasons."""
    return CertificateUntrusted(
        "the TPM's certificate was refused",
        cause=cause,
        remedy="add its vendor's root to the folder of roots if that is missing; else do not trust this TPM",
        reason=reason,
    )


def _sent_along(untrusted_chain: bytes) -> tuple[tuple[Certificate, ...], CertificateMalformed | None]:
    """The issuers that a host sent; none where they cannot be read: the verifier may have its own."""
    try:
        return parse_several(untrusted_chain, CHAIN), None
    except CertificateMalformed as error:
        return (), error


def _attributes(leaf: Certificate) -> tuple[tuple[bytes, str], ...]:
    return names(leaf.extensions[SAN].value) if SAN in leaf.extensions else ()


def _chip(path: tuple[Certificate, ...], makers: list[str], roots: Roots) -> bool:
    # 10. Who says nothing about its maker is none either.
    if roots.is_software(path):
        return False
    programs = [maker for maker in makers if maker.upper().replace("ID:", "id:") in _PROGRAMS]
    if programs or not makers:
        told = programs[0] if programs else "not named"
        raise refused(
            f"a root of chips vouches for it, and its manufacturer, which is {told}, makes no chips", "manufacturer"
        )
    return True


class _Search:
    """One search for a path. It keeps the failure that came furthest, and counts signatures."""

    def __init__(self, roots: Roots, chain: tuple[Certificate, ...], time: int) -> None:
        self._roots = roots
        self._chain = chain
        self._time = time
        self._signatures = 0
        self._furthest: tuple[int, CertificateUntrusted] = (
            0,
            refused("none of the verifier's roots issued it, nor did one whom they vouch for", "issuer"),
        )

    def path(self, leaf: Certificate) -> tuple[Certificate, ...]:
        try:
            self._verify_one(leaf)
        except CertificateUntrusted as error:
            self._furthest = (1, error)
        else:
            for found in self._paths((leaf,)):
                return found
        raise self._furthest[1]

    def _paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """All ways on from a path whose last certificate is verified but for its signature."""
        if len(path) == LENGTH:  # 7.
            return
        for issuer in self._issuers(path):
            try:
                self._verify_one(issuer)
                self._verify_issuer(issuer, below=len(path) - 1)
                self._verify_signature(path[-1], issuer)
            except CertificateUntrusted as error:
                if error.reason == "work":
                    raise
                if len(path) + 1 > self._furthest[0]:
                    self._furthest = (len(path) + 1, error)
                continue
            longer = (*path, issuer)
            if self._roots.trusts(issuer):
                yield longer
            else:
                yield from self._paths(longer)

    def _issuers(self, path: tuple[Certificate, ...]) -> Iterator[Certificate]:
        # 1. The verifier's own come first, so that nothing that was sent along keeps them from being found.
        wanted = path[-1].issuer
        yield from (found for found in self._roots.named(wanted) if found not in path)
        yield from (found for found in self._chain if found.subject == wanted and found not in path)

    def _verify_one(self, certificate: Certificate) -> None:
        # 4.
        if not certificate.since <= self._time <= certificate.until:
            raise refused(f"{_told(certificate)} is not valid at this time", "validity")
        # 5.
        if self._roots.revokes(certificate):
            raise refused(f"{_told(certificate)} is on the list of revoked ones", "revoked")
        # 6.
        if any(found.critical and kind not in _KNOWN for kind, found in certificate.extensions.items()):
            raise refused(f"{_told(certificate)} has a critical extension that is not known", "extension")

    def _verify_issuer(self, issuer: Certificate, below: int) -> None:
        # 3.
        issues, most = issuer.authority
        if not issues:
            raise refused(f"{_told(issuer)} is no issuer's", "authority")
        if not issuer.may(KEY_CERT_SIGN):
            raise refused(f"the key of {_told(issuer)} is not for certificates", "key-usage")
        if most is not None and below > most:
            raise refused(f"{_told(issuer)} allows {most} issuers below it", "path-length")

    def _verify_signature(self, certificate: Certificate, issuer: Certificate) -> None:
        # 2.
        self._signatures += 1
        if self._signatures > SIGNATURES:
            raise refused(f"more than {SIGNATURES} signatures would have to be checked", "work")
        verify_certificate_signature(certificate, issuer)


def verify_certificate_signature(certificate: Certificate, issuer: Certificate) -> None:
    """Require that the issuer's key signed a certificate, over its original bytes.

    Raises:
        CertificateUntrusted: it did not (``signature``), or with an algorithm that is not accepted (``algorithm``).
        CertificateMalformed: the algorithm's parameters are.
    """
    key, kind = issuer.key, certificate.algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and kind in _ECDSA:
            key.verify(certificate.signature, certificate.signed, ec.ECDSA(_ECDSA[kind]()))
        elif isinstance(key, rsa.RSAPublicKey) and kind in _RSASSA:
            key.verify(certificate.signature, certificate.signed, padding.PKCS1v15(), _RSASSA[kind]())
        elif isinstance(key, rsa.RSAPublicKey) and kind == _PSS:
            digest = _pss_digest(certificate.parameters)
            pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
            key.verify(certificate.signature, certificate.signed, pss, digest)
        else:
            raise refused(f"{_told(certificate)} is signed with an algorithm that is not accepted", "algorithm")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise refused(f"{_told(certificate)} is not signed by the issuer that it names", "signature") from error


def _pss_digest(parameters: bytes) -> hashes.HashAlgorithm:
    """The hash of RSASSA-PSS-params (RFC 4055, 3.1); without one it is SHA-1."""
    for field in der.first(parameters).parts() if parameters else ():
        if field.tag == der.context(0):
            kind = der.first(field.body).parts(der.OID)[0].body
            if kind in _DIGESTS:
                return _DIGESTS[kind]()
    raise refused("a certificate is signed with an algorithm that is not accepted", "algorithm")


def _told(certificate: Certificate) -> str:
    return f"the certificate with serial number {certificate.serial.hex()[:40] or '-'}"
