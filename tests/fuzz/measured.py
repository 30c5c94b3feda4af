# SPDX-License-Identifier: Apache-2.0
"""The measurement log in CBOR, and what a VM's TPM answers: seeds, and what must hold for what is let through."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent import vtpm_wire
from lab.measuring import booted, launch, logged, platform, started, stopped
from measure.cel import LOGGED, record
from measure.cel_cbor import encode_log, parse_log
from measure.pcr import ALGORITHMS

PIECE = b"the first bytes of a certificate"


def logs() -> list[bytes]:
    """Logs of one record and of many, of one bank and of all."""
    events = [*booted(platform(1)), launch("host", "host/settings", "ab" * 32), started("desk", 1), stopped("desk", 1)]
    one_bank = [record(number, pcr, event, ["sha256"]) for number, (pcr, event) in enumerate(events)]
    return [encode_log(one_bank[:1]), encode_log(one_bank), encode_log(logged(events)), encode_log(one_bank * 0)]


def check_log(folder: Path, untrusted: bytes) -> None:
    """What is let through is what would have been written."""
    records = parse_log(untrusted)
    assert encode_log(records) == untrusted
    assert [entry.number for entry in records] == list(range(len(records)))
    assert all(entry.pcr in LOGGED and set(entry.digests) <= set(ALGORITHMS) for entry in records)


def _response(tag: int, body: bytes) -> bytes:
    return vtpm_wire.HEADER.pack(tag, vtpm_wire.HEADER.size + len(body), 0) + body


def sizes() -> list[bytes]:
    """Answers to the question for the certificate's length: an index without a policy, and one with."""
    found = []
    for policy in (b"", bytes(32)):
        area = struct.pack(">IHIH", vtpm_wire.CERTIFICATE_INDEX, 0x000B, 0x62072001, len(policy)) + policy
        public = area + struct.pack(">H", 1_100)
        found.append(_response(0x8001, struct.pack(">H", len(public)) + public + struct.pack(">H", 34) + bytes(34)))
    return found


def check_size(folder: Path, untrusted: bytes) -> None:
    """A length is one that may be read."""
    assert 0 < vtpm_wire.read_size(untrusted) <= vtpm_wire.MAX_CERTIFICATE


def pieces() -> list[bytes]:
    """The answer to the question for a piece."""
    body = struct.pack(">H", len(PIECE)) + PIECE
    return [_response(0x8002, struct.pack(">I", len(body)) + body + bytes(5))]


def check_piece(folder: Path, untrusted: bytes) -> None:
    """A piece has the length that was asked for; and it is known when an answer is whole."""
    assert len(vtpm_wire.read_piece(untrusted, len(PIECE))) == len(PIECE)
    assert vtpm_wire.whole(untrusted)


def certificates() -> list[bytes]:
    """Certificates of another key than RSA, which are shorter and read by the same code."""
    key = ec.derive_private_key(20261126, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "swtpm-localca")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(day)
        .not_valid_after(day + timedelta(days=3_650))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return [made.public_bytes(vtpm_wire.Encoding.DER)]


def check_certificate(folder: Path, untrusted: bytes) -> None:
    """A key has one digest."""
    digest = vtpm_wire.endorsement(untrusted)
    assert digest == vtpm_wire.endorsement(untrusted)
    assert len(bytes.fromhex(digest)) == 32
