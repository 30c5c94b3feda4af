# SPDX-License-Identifier: Apache-2.0
"""The key area of an encrypted disk: a LUKS1 header with one passphrase, as QEMU and cryptsetup read it. Pure.

The form is that of the "LUKS On-Disk Format Specification" 1.2.3, with AES-256 in XTS mode. The header holds the key
that the disk is encrypted with, split (section "Anti-forensic splitter") and encrypted with the passphrase; who has
neither passphrase nor that key has nothing. Opening one is QEMU's: this module makes headers and reads none.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SECTOR = 512
KEY_SIZE = 64
"""Bytes of the disk's key: two keys of AES-256."""

STRIPES, SLOTS = 4_000, 8
ROUNDS = 1_000
"""Of PBKDF2, the least that readers take: a passphrase here has 256 random bits, and nobody guesses it."""

_ENABLED, _DISABLED = 0x00AC71F3, 0x0000DEAD
_ALIGNED = 4_096
_MATERIAL = -(-KEY_SIZE * STRIPES // _ALIGNED) * _ALIGNED
HEADER_SIZE = _ALIGNED + SLOTS * _MATERIAL
"""Bytes of the header with the room of all its slots."""

_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")

Random = Callable[[int], bytes]


def encode_key_area(passphrase: bytes, uuid: str, random: Random) -> bytes:
    """A header for a new disk, whose key nobody else has.

    Args:
        passphrase: opens it; at least 32 random bytes, in whatever form.
        uuid: of the disk.
        random: gives so many bytes, such as ``os.urandom``.

    Raises:
        ValueError: a passphrase that somebody could guess.
    """
    if len(passphrase) < 32:
        raise ValueError("a passphrase of fewer than 32 bytes")
    key, salt, slot_salt = random(KEY_SIZE), random(32), random(32)
    digest = hashlib.pbkdf2_hmac("sha256", key, salt, ROUNDS, 20)
    header = _HEADER.pack(
        b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", HEADER_SIZE // SECTOR, KEY_SIZE, digest, salt, ROUNDS,
        uuid.encode(),
    )  # fmt: skip
    for slot in range(SLOTS):
        used, place = slot == 0, (_ALIGNED + slot * _MATERIAL) // SECTOR
        header += _SLOT.pack(
            _ENABLED if used else _DISABLED, ROUNDS if used else 0, slot_salt if used else bytes(32), place, STRIPES
        )
    opened_by = hashlib.pbkdf2_hmac("sha256", passphrase, slot_salt, ROUNDS, KEY_SIZE)
    material = _encrypt(opened_by, _split(key, random))
    return (header.ljust(_ALIGNED, b"\0") + material).ljust(HEADER_SIZE, b"\0")


def _split(key: bytes, random: Random) -> bytes:
    """The key over many stripes, so that losing one of them loses the key."""
    stripes = [random(len(key)) for _ in range(STRIPES - 1)]
    mixed = bytes(len(key))
    for stripe in stripes:
        mixed = _diffuse(_xor(mixed, stripe))
    return b"".join((*stripes, _xor(mixed, key)))


def _diffuse(block: bytes) -> bytes:
    parts = (block[at : at + 32] for at in range(0, len(block), 32))
    return b"".join(
        hashlib.sha256(struct.pack(">I", number) + part).digest()[: len(part)] for number, part in enumerate(parts)
    )


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _encrypt(key: bytes, material: bytes) -> bytes:
    """By sectors, each with its number as the tweak (``plain64``)."""
    sectors = (material[at : at + SECTOR] for at in range(0, len(material), SECTOR))
    encrypted = []
    for number, sector in enumerate(sectors):
        cipher = Cipher(algorithms.AES(key), modes.XTS(struct.pack("<QQ", number, 0))).encryptor()
        encrypted.append(cipher.update(sector) + cipher.finalize())
    return b"".join(encrypted)
