# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for log servers, with revocation lists, and certificates with one defect each."""

from __future__ import annotations

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = timedelta(days=1)
SIGNS = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


class LogAuthority:
    """An authority; its certificate lies at ``file``, its revocation list at ``crl``."""

    def __init__(self, folder: Path, name: str = "log-ca", length: int = 0) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.serial = 0
        self.file, self.crl = folder / f"{name}.pem", folder / f"{name}.crl"
        public = self._key.public_key()
        builder = (
            _builder(self._name, self._name, public, -40, 80)
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.revoke()

    def below(self, name: str, *, ca: bool | None = True) -> LogAuthority:
        """An authority that this one vouches for; ``ca`` is what its constraints say, None for no constraints."""
        lower = LogAuthority(self._folder, name)
        public = lower._key.public_key()
        builder = (
            _builder(lower._name, self._name, public, -20, 40)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        if ca:
            builder = builder.add_extension(SIGNS, critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        lower.serial = certificate.serial_number
        lower.file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return lower

    def certificate(
        self,
        label: str,
        names: tuple[str, ...] = ("127.0.0.1",),
        days: tuple[int, int] = (-1, 30),
        purpose: ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> tuple[Path, Path, int]:
        """A certificate, its key, and its serial number; ``days`` from now on it is valid."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else label)])
        builder = (
            _builder(subject, self._name, key.public_key(), *days)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        file, private = self._folder / f"{label}.pem", self._folder / f"{label}.key"
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return file, private, certificate.serial_number

    def explicit_curve(self) -> tuple[Path, Path, int]:
        """A certificate whose key spells its curve out, which RFC 5480 (2.1.1) forbids; only OpenSSL makes one."""
        file, key, asked, own, more = (self._folder / f"explicit.{end}" for end in ("pem", "key", "csr", "ca", "ext"))
        own.write_bytes(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        more.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n"
                        "subjectKeyIdentifier=hash\n")  # fmt: skip
        for line in (
            f"ecparam -name prime256v1 -genkey -noout -param_enc explicit -out {key}",
            f"req -new -key {key} -subj /CN=127.0.0.1 -out {asked}",
            f"x509 -req -in {asked} -CA {self.file} -CAkey {own} -set_serial 4711 -days 10 -extfile {more} -out {file}",
        ):
            subprocess.run(["openssl", *line.split()], check=True, capture_output=True)
        return file, key, 4711

    def revoke(self, *serials: int, days: tuple[int, int] = (-1, 30)) -> None:
        """Write the list anew."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now + days[0] * DAY).next_update(now + days[1] * DAY)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        ).add_extension(x509.CRLNumber(1), critical=False)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        self.crl.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: int, until: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now + since * DAY).not_valid_after(now + until * DAY)
