# SPDX-License-Identifier: Apache-2.0
"""X.509 certificates of TPMs and their issuers, read tolerantly and never encoded again.

Source: RFC 5280, section 4.1. Strict readers refuse certificates that real vendors ship: SETs that are not sorted,
serial numbers that are negative or begin with zeros, bytes behind the end, keys marked id-RSAES-OAEP (RFC 4055). None
of this changes what is signed, so it is let through: all parts keep their bytes, and names are compared as bytes. A
certificate in a TPM's memory may be padded with 00 or FF and may begin with the header 10 01 00.

A parsed certificate is trusted for nothing: ``measure.ek_path`` finds out who signed it.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from measure import der
from measure.der import Element, malformed, oid

LIMIT: Final = 16_384
"""Most bytes of a certificate, with what stands around it in a TPM's memory."""

SAN, CONSTRAINTS, USAGE, PURPOSES = oid("2.5.29.17"), oid("2.5.29.19"), oid("2.5.29.15"), oid("2.5.29.37")
KEY_CERT_SIGN: Final = 5
"""Bit of keyUsage (RFC 5280, 4.2.1.3)."""

_RSA_KEYS = frozenset(map(oid, ("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.7", "1.2.840.113549.1.1.10")))
"""rsaEncryption, id-RSAES-OAEP and id-RSASSA-PSS: the same key with other words about its use."""

_EC_KEY = oid("1.2.840.10045.2.1")
_CURVES: Final = MappingProxyType(
    {
        oid("1.2.840.10045.3.1.7"): ec.SECP256R1(),
        oid("1.3.132.0.34"): ec.SECP384R1(),
        oid("1.3.132.0.35"): ec.SECP521R1(),
    }
)
_STORED = b"\x10\x01\x00"
"""TCG_PCCLIENT_STORED_CERT, whole (TCG PC Client Specific Implementation Specification for BIOS 1.21, 7.4.5)."""

_FULL = b"\x10\x02"
_TIME = {
    der.UTC_TIME: re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?Z"),
    der.GENERALIZED_TIME: re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?Z"),
}
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One extension.

    Attributes:
        critical: whoever does not know it must refuse the certificate.
        value: DER of its content.
    """

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says.

    Attributes:
        raw: its bytes, without padding and header.
        signed: the bytes that the signature is over.
        algorithm: content of the signature algorithm's OBJECT IDENTIFIER.
        parameters: DER of the algorithm's parameters; empty for none.
        signature: as ``cryptography`` takes it.
        serial: content of the INTEGER, whatever it is.
        issuer, subject: DER of the names.
        since, until: seconds since 1970 UTC, both included.
        key: the subject's public key.
        extensions: by the content of their OBJECT IDENTIFIER.
    """

    raw: bytes
    signed: bytes
    algorithm: bytes
    parameters: bytes
    signature: bytes
    serial: bytes
    issuer: bytes
    subject: bytes
    since: int
    until: int
    key: PublicKey
    extensions: Mapping[bytes, Extension]

    @property
    def key_digest(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo as most programs write it, whatever the certificate's way."""
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()

    @property
    def authority(self) -> tuple[bool, int | None]:
        """Whether it may issue certificates, and how many issuers may stand below it (RFC 5280, 4.2.1.9).

        Raises:
            CertificateMalformed: the extension is.
        """
        if CONSTRAINTS not in self.extensions:
            return False, None
        parts = list(_only(self.extensions[CONSTRAINTS].value, der.SEQUENCE).parts())
        issues = bool(parts) and parts[0].tag == der.BOOLEAN and parts.pop(0).body != b"\0"
        if not parts:
            return issues, None
        if parts[0].tag != der.INTEGER or not 1 <= len(parts[0].body) <= 2:
            raise malformed("its basic constraints are not in their form")
        return issues, max(int.from_bytes(parts[0].body, "big", signed=True), 0)

    def may(self, usage: int) -> bool:
        """Whether its key may be used so; what says nothing about use allows all (RFC 5280, 4.2.1.3).

        Raises:
            CertificateMalformed: the extension is.
        """
        if USAGE not in self.extensions:
            return True
        bits = _bits(_only(self.extensions[USAGE].value, der.BIT_STRING))
        return len(bits) > usage // 8 and bool(bits[usage // 8] & 0x80 >> usage % 8)

    def purposes(self) -> tuple[bytes, ...]:
        """Contents of the OBJECT IDENTIFIERs of its extended key usage; empty where there is none.

        Raises:
            CertificateMalformed: the extension is.
        """
        if PURPOSES not in self.extensions:
            return ()
        return tuple(item.body for item in _only(self.extensions[PURPOSES].value, der.SEQUENCE).parts())


def parse_certificate(untrusted: bytes) -> Certificate:
    """Read one certificate, as a TPM's memory or a file holds it.

    Raises:
        CertificateMalformed: it is none; ``reason`` says of what sort.
    """
    if len(untrusted) > LIMIT:
        raise malformed(f"it has more than {LIMIT} bytes", "size")
    outer = der.first(unwrap(untrusted))
    if outer.tag != der.SEQUENCE:
        raise malformed("it does not begin like a certificate")
    signed, algorithm, signature = _exactly(outer.parts(der.SEQUENCE, der.SEQUENCE, der.BIT_STRING), 3)
    fields = list(signed.parts())
    _refuse_attributes(fields)
    if fields and fields[0].tag == der.context(0):
        fields.pop(0)
    tags = (der.INTEGER, *(der.SEQUENCE,) * 5)
    if tuple(field.tag for field in fields[:6]) != tags:
        raise malformed("a part of it is missing, or of another type")
    serial, inner, issuer, validity, subject, key, *rest = fields
    kind, parameters = _algorithm(algorithm)
    if kind != _algorithm(inner)[0]:
        raise malformed("it names two signature algorithms")
    since, until = _exactly(validity.parts(), 2)
    return Certificate(
        raw=outer.raw,
        signed=signed.raw,
        algorithm=kind,
        parameters=parameters,
        signature=_bits(signature),
        serial=serial.body,
        issuer=issuer.raw,
        subject=subject.raw,
        since=_seconds(since),
        until=_seconds(until),
        key=_read_key(key),
        extensions=MappingProxyType(_extensions(rest)),
    )


def unwrap(untrusted: bytes) -> bytes:
    """A certificate without the header that some vendors keep in a TPM's memory.

    Raises:
        CertificateMalformed: nothing is there but padding, or the header says more than there is.
    """
    if not untrusted.strip(b"\0") or not untrusted.strip(b"\xff"):
        raise malformed("nothing but padding is there", "empty")
    if not untrusted.startswith(_STORED):
        return untrusted
    size = int.from_bytes(untrusted[3:5], "big")
    inside = untrusted[5 : 5 + size]
    if len(untrusted) < 5 or len(inside) < size:
        raise malformed("it ends before its header says", "truncated")
    return inside.removeprefix(_FULL)


def parse_several(untrusted: bytes, most: int) -> tuple[Certificate, ...]:
    """Read certificates that stand one after the other; padding ends them.

    Raises:
        CertificateMalformed: one is, or there are more than ``most``.
    """
    found: list[Certificate] = []
    while untrusted.strip(b"\0") and untrusted.strip(b"\xff"):
        if len(found) == most:
            raise malformed(f"there are more than {most}", "size")
        raw = der.first(untrusted).raw
        found.append(parse_certificate(raw))
        untrusted = untrusted[len(raw) :]
    return tuple(found)


def names(value: bytes) -> tuple[tuple[bytes, str], ...]:
    """The attributes of all directory names in a subject alternative name: (content of the OID, text).

    Raises:
        CertificateMalformed: it is no GeneralNames (RFC 5280, 4.2.1.6).
    """
    found: list[tuple[bytes, str]] = []
    for general in _only(value, der.SEQUENCE).parts():
        if general.tag != der.context(4):
            continue
        for relative in _only(general.body, der.SEQUENCE).parts():
            for attribute in relative.parts():
                kind, text = _exactly(attribute.parts(der.OID), 2)
                found.append((kind.body, text.body.decode("utf-8", "replace")))
    return tuple(found)


def _refuse_attributes(fields: list[Element]) -> None:
    """RFC 5755, 4.1: a version, then a holder, which begins with [0], [1] or [2] where a certificate has a SEQUENCE."""
    if len(fields) > 1 and fields[0].tag == der.INTEGER and fields[1].tag == der.SEQUENCE:
        inside = fields[1].parts()
        if inside and inside[0].tag in {der.context(number) for number in range(3)}:
            raise malformed("it is an attribute certificate, which holds no key", "attribute-certificate")


def _algorithm(element: Element) -> tuple[bytes, bytes]:
    kind, *parameters = element.parts(der.OID)
    return kind.body, b"".join(part.raw for part in parameters)


def _extensions(rest: list[Element]) -> dict[bytes, Extension]:
    found: dict[bytes, Extension] = {}
    for field in rest:
        if field.tag != der.context(3):
            continue  # the unique identifiers of issuer and subject, which nobody uses
        for element in _only(field.body, der.SEQUENCE).parts():
            kind, *more = element.parts(der.OID)
            critical = bool(more) and more[0].tag == der.BOOLEAN and more.pop(0).body != b"\0"
            if len(more) != 1 or more[0].tag != der.OCTET_STRING or kind.body in found:
                raise malformed("an extension is not in its form, or there twice")
            found[kind.body] = Extension(critical=critical, value=more[0].body)
    return found


def _seconds(element: Element) -> int:
    """Of a UTCTime or GeneralizedTime in UTC; whoever leaves out the seconds means zero."""
    match = _TIME[element.tag].fullmatch(element.body) if element.tag in _TIME else None
    if match is None:
        raise malformed("a time in it is not in its form", "time")
    year, month, day, hour, minute, second = (int(group or 0) for group in match.groups())
    if element.tag == der.UTC_TIME:
        year += 1900 if year >= 50 else 2000
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise malformed("a time in it is none", "time") from error
    return calendar.timegm(moment.timetuple())


def _read_key(element: Element) -> PublicKey:
    algorithm, bits = _exactly(element.parts(der.SEQUENCE, der.BIT_STRING), 2)
    kind, parameters = _algorithm(algorithm)
    try:
        if kind in _RSA_KEYS:
            modulus, exponent = _exactly(_only(_bits(bits), der.SEQUENCE).parts(der.INTEGER, der.INTEGER), 2)
            return _rsa(int.from_bytes(modulus.body, "big"), int.from_bytes(exponent.body, "big"))
        if kind == _EC_KEY and (curve := _CURVES.get(_only(parameters, der.OID).body)):
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, _bits(bits))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise malformed("its public key is none", "key") from error
    raise malformed("its public key is neither RSA nor on P-256, P-384 or P-521", "key")


def _rsa(modulus: int, exponent: int) -> rsa.RSAPublicKey:
    if not 2048 <= modulus.bit_length() <= 8192 or not modulus & 1 or not 3 <= exponent < 1 << 32:
        raise ValueError("an RSA key of another size, or with an even modulus")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _bits(element: Element) -> bytes:
    if not element.body or element.body[0] > 7:
        raise malformed("a BIT STRING in it is not in its form")
    return element.body[1:]


def _only(data: bytes, tag: int) -> Element:
    (found,) = _exactly(der.split(data, tag), 1)
    return found


def _exactly(elements: tuple[Element, ...], count: int) -> tuple[Element, ...]:
    if len(elements) != count:
        raise malformed("a part of it is missing, or there is one too many")
    return elements
