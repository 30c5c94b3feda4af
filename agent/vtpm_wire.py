# SPDX-License-Identifier: Apache-2.0
"""The two TPM commands that read a certificate out of a VM's TPM, and their answers; byte strings in and out.

Source: TPM 2.0 Library Part 3, 31.6 (NV_ReadPublic) and 31.13 (NV_Read); TCG EK Credential Profile 2.2.1.4 (where
the certificate is). A VM's TPM is a program whose state a guest has written to: its answers are untrusted. This module
talks to nobody.
"""

from __future__ import annotations

import hashlib
import struct

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vm_errors import GuestTpmFailed

CERTIFICATE_INDEX = 0x01C00002
"""NV index of the certificate of the RSA 2048 endorsement key. The guest's firmware and owner cannot write there."""

MAX_CERTIFICATE = 4_096
MAX_RESPONSE = 4_096
PIECE = 512
"""Bytes that are read at once; every TPM gives as many."""

HEADER = struct.Struct(">HII")
"""Tag, size in all, command or response code (Part 1, 18)."""

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_NV_READ_PUBLIC, _NV_READ = 0x169, 0x14E
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)


def ask_size() -> bytes:
    """The command that asks for the certificate's length."""
    return _command(_NO_SESSIONS, _NV_READ_PUBLIC, struct.pack(">I", CERTIFICATE_INDEX))


def ask_piece(offset: int, length: int) -> bytes:
    """The command that asks for a piece of it, by the index's own, empty password."""
    handles = struct.pack(">II", CERTIFICATE_INDEX, CERTIFICATE_INDEX)
    return _command(_SESSIONS, _NV_READ, handles + _EMPTY_PASSWORD + struct.pack(">HH", length, offset))


def read_size(untrusted_response: bytes) -> int:
    """The certificate's length.

    Raises:
        GuestTpmFailed: there is no certificate, or this is no answer.
    """
    body = _body(untrusted_response, _NO_SESSIONS)
    area = _sized(body)
    # TPMS_NV_PUBLIC: index, hash algorithm, attributes, a policy of any length, size.
    if len(area) < 14 or len(_sized(area[10:])) + 14 != len(area):
        raise _failed("its certificate's index is malformed")
    size = int.from_bytes(area[-2:], "big")
    if int.from_bytes(area[:4], "big") != CERTIFICATE_INDEX or not 0 < size <= MAX_CERTIFICATE:
        raise _failed("its certificate's index is another, empty or too large")
    return size


def read_piece(untrusted_response: bytes, length: int) -> bytes:
    """A piece of the certificate.

    Raises:
        GuestTpmFailed: it is not the piece that was asked for.
    """
    body = _body(untrusted_response, _SESSIONS)
    piece = _sized(body[4:])
    if len(piece) != length:
        raise _failed("it gave another piece of its certificate")
    return piece


def whole(untrusted_response: bytes) -> bool:
    """Whether all of a response is there."""
    if len(untrusted_response) < HEADER.size:
        return False
    _, size, _ = HEADER.unpack_from(untrusted_response)
    return bool(len(untrusted_response) >= min(size, MAX_RESPONSE))


def endorsement(untrusted_certificate: bytes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo of the certificate.

    Raises:
        GuestTpmFailed: it is no certificate.
    """
    try:
        key = x509.load_der_x509_certificate(untrusted_certificate).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise _failed("the certificate of its endorsement key is malformed") from error
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _command(tag: int, code: int, rest: bytes) -> bytes:
    return HEADER.pack(tag, HEADER.size + len(rest), code) + rest


def _body(untrusted_response: bytes, tag: int) -> bytes:
    if not HEADER.size <= len(untrusted_response) <= MAX_RESPONSE:
        raise _failed("it did not answer, or too much")
    found, size, code = HEADER.unpack_from(untrusted_response)
    if code:
        raise _failed(f"it has no certificate of an endorsement key, or does not give it ({code:#x})")
    if found != tag or size != len(untrusted_response):
        raise _failed("its answer is malformed")
    return untrusted_response[HEADER.size :]


def _sized(data: bytes) -> bytes:
    """The value that begins here with its length."""
    length = int.from_bytes(data[:2], "big")
    if len(data) < 2 + length or len(data) < 2:
        raise _failed("its answer is cut off")
    return data[2 : 2 + length]


def _failed(cause: str) -> GuestTpmFailed:
    return GuestTpmFailed("the VM's TPM was not identified", cause=cause, remedy="see `vmgate explain AG041`")
