# SPDX-License-Identifier: Apache-2.0
"""Certificates of log servers to damage, and what must hold for those that are let through."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from agent.offload.peer import verify_server

NAME = "logs.example.org"
DNS = x509.DNSName(NAME)


def certificates() -> list[bytes]:
    """One that is right, one with another purpose, one with many names: the same at every run."""
    others = (x509.DNSName("*.example.org"), x509.IPAddress(ipaddress.ip_address("2001:db8::1")))
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    return [_made(purpose, DNS), _made(ExtendedKeyUsageOID.CLIENT_AUTH, DNS), _made(purpose, *others, DNS)]


def _made(purpose: ObjectIdentifier, *names: x509.GeneralName) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a log server")])
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    builder = builder.serial_number(7).not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def check_certificate(folder: Path, untrusted: bytes) -> None:
    """Whoever is let through has the name and the purpose somewhere in its bytes (2.5.29.37 and 1.3.6.1.5.5.7.3.1)."""
    verify_server(untrusted, NAME)
    assert NAME.encode() in untrusted.lower()
    assert b"\x55\x1d\x25" in untrusted
    assert b"\x2b\x06\x01\x05\x05\x07\x03\x01" in untrusted
