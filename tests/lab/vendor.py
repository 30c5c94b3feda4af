# SPDX-License-Identifier: Apache-2.0
"""A TPM vendor of the tests: authorities, certificates of endorsement keys, and each defect that vendors ship.

A certificate is made by ``cryptography``; ``edit`` then changes the parts of what is signed, byte by byte, and the
result is put together and signed here, since no library writes what is malformed. Keys live in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = 1_795_000_000
DAY = 86_400
CHIP = "id:49465800"
SWTPM = "id:00001014"
EK_PURPOSE = ObjectIdentifier("2.23.133.8.1")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Edit = Callable[[list[bytes]], list[bytes]]


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of some RSA keys: making them takes its time."""
    return rsa.generate_private_key(65537, bits)


def ecc_key(number: int = 1, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """One of some ECC keys, always the same."""
    return ec.derive_private_key(20261126 + number, curve or ec.SECP256R1())


def tlv(tag: int, body: bytes) -> bytes:
    """One element in DER."""
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def parts(element: bytes) -> list[bytes]:
    """What a constructed element consists of; well-formed bytes only."""
    found, body = [], element[_head(element) :]
    while body:
        end = _head(body) + _length(body)
        found.append(body[:end])
        body = body[end:]
    return found


def _head(element: bytes) -> int:
    return 2 + (element[1] & 0x7F if element[1] & 0x80 else 0)


def _length(element: bytes) -> int:
    return int.from_bytes(element[2 : _head(element)], "big") if element[1] & 0x80 else element[1]


class Authority:
    """Somebody who issues certificates.

    Args:
        name: of the authority.
        parent: who issued its certificate; itself for a root.
        key: its private key.
        since, until: when it is valid, in days from ``NOW``.
        ca: whether its certificate says that it is an authority.
        length: the path length that it allows; None for any.
        signs: whether its key usage is that of an authority.
        unknown: whether it has a critical extension that nobody knows.
    """

    def __init__(
        self,
        name: str = "root",
        parent: Authority | None = None,
        *,
        key: PrivateKey | None = None,
        since: int = -100,
        until: int = 100,
        ca: bool = True,
        length: int | None = None,
        signs: bool = True,
        unknown: bool = False,
    ) -> None:
        self.key = key or ecc_key(sum(name.encode()))
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._serial = 0
        usage = x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=ca, path_length=length if ca else None), True),
            (usage, True),
        ]
        if unknown:
            extensions.append((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True))
        self.certificate = (parent or self).issue(self.name, self.key.public_key(), extensions, since, until)

    def ek(
        self,
        key: PublicKey,
        *,
        manufacturer: str | None = CHIP,
        another: str | None = None,
        purpose: ObjectIdentifier | None = EK_PURPOSE,
        since: int = -10,
        until: int = 10,
        ca: bool = False,
        unknown: bool = False,
        digest: hashes.HashAlgorithm | None = None,
        pss: bool = False,
        edit: Edit = list,
    ) -> bytes:
        """The certificate of an endorsement key: no subject, what the TPM is in critical alternative names."""
        words = [("1", manufacturer), ("1", another), ("2", "T1"), ("3", "id:0001")]
        named = [
            x509.NameAttribute(ObjectIdentifier(f"2.23.133.2.{oid}"), word) for oid, word in words if word is not None
        ]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(named))]), True),
            (x509.BasicConstraints(ca=ca, path_length=None), True),
            # Subject directory attributes: specification 2.0, level 0, revision 138, as the profile wants them.
            (x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.9"), ATTRIBUTES), True),
        ]
        if purpose is not None:
            extensions.append((x509.ExtendedKeyUsage([purpose]), False))
        if unknown:
            extensions.append((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True))
        return self.issue(x509.Name([]), key, extensions, since, until, digest=digest, pss=pss, edit=edit)

    def issue(
        self,
        subject: x509.Name,
        key: PublicKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
        since: int,
        until: int,
        *,
        digest: hashes.HashAlgorithm | None = None,
        pss: bool = False,
        edit: Edit = list,
    ) -> bytes:
        """A certificate in DER."""
        self._serial += 1
        builder = x509.CertificateBuilder(subject_name=subject, issuer_name=self.name, public_key=key)
        builder = builder.serial_number(self._serial).not_valid_before(_day(since)).not_valid_after(_day(until))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        rsa_padding = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if pss else None
        # Always the same signature: a case of the fuzzing is made again from its number.
        same = True if isinstance(self.key, ec.EllipticCurvePrivateKey) else None
        made = builder.sign(
            self.key, digest or hashes.SHA256(), rsa_padding=rsa_padding, ecdsa_deterministic=same
        ).public_bytes(Encoding.DER)
        if edit is list:
            return made
        signed, algorithm, _ = parts(made)
        return self.sign(tlv(0x30, b"".join(edit(parts(signed)))), algorithm)

    def sign(self, signed: bytes, algorithm: bytes) -> bytes:
        """Put together and sign what may be malformed; ECDSA or RSASSA with SHA-256."""
        sha = hashes.SHA256()
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            signature = self.key.sign(signed, ec.ECDSA(sha, deterministic_signing=True))
        else:
            signature = self.key.sign(signed, padding.PKCS1v15(), sha)
        return tlv(0x30, signed + algorithm + tlv(0x03, b"\0" + signature))


ATTRIBUTES = bytes.fromhex("3019 3017 0605 6781050210 310e 300c 0c03322e30 020100 0202008a")
SERIAL, INNER, ISSUER, VALIDITY, SUBJECT, KEY, EXTENSIONS = range(1, 8)
"""Where the parts of what is signed stand; the version is the first."""


def _day(days: int) -> datetime:
    return datetime.fromtimestamp(NOW + days * DAY, UTC)


def replaced(at: int, new: bytes) -> Edit:
    """An edit: another part in one place."""
    return lambda found: [new if number == at else part for number, part in enumerate(found)]


def marked_for_oaep(found: list[bytes]) -> list[bytes]:
    """An edit: the key's algorithm is id-RSAES-OAEP with no parameters, as Intel and Infineon wrote it."""
    _, key = parts(found[KEY])
    algorithm = tlv(0x30, tlv(0x06, bytes.fromhex("2a864886f70d010107")) + tlv(0x30, b""))
    return replaced(KEY, tlv(0x30, algorithm + key))(found)


def unsorted(found: list[bytes]) -> list[bytes]:
    """An edit: an issuer's name whose SET has several attributes, the larger one first, as Nuvoton wrote it."""
    names = [
        tlv(0x30, tlv(0x06, bytes.fromhex("550403")) + tlv(0x0C, b"zz")),
        tlv(0x30, tlv(0x06, bytes.fromhex("550403")) + tlv(0x0C, b"a")),
    ]
    return replaced(SUBJECT, tlv(0x30, tlv(0x31, b"".join(names))))(found)


def stored(certificate: bytes, *, full: bool = True) -> bytes:
    """As a TPM's memory may hold it: behind a header, in front of padding."""
    inside = (b"\x10\x02" if full else b"") + certificate
    return b"\x10\x01\x00" + len(inside).to_bytes(2, "big") + inside + b"\xff" * 40


def attribute_certificate(authority: Authority) -> bytes:
    """A platform certificate's beginning, which is no public key certificate (RFC 5755)."""
    holder = tlv(0x30, tlv(0xA0, tlv(0x30, b"") + tlv(0x02, b"\x01")))
    algorithm = tlv(0x30, tlv(0x06, bytes.fromhex("2a8648ce3d040302")))
    times = tlv(0x30, tlv(0x18, b"20200101000000Z") + tlv(0x18, b"20300101000000Z"))
    signed = tlv(0x02, b"\x01") + holder + tlv(0xA0, b"") + algorithm + tlv(0x02, b"\x05") + times + tlv(0x30, b"")
    return authority.sign(tlv(0x30, signed), algorithm)


SERVER_PURPOSE = ExtendedKeyUsageOID.SERVER_AUTH
