# SPDX-License-Identifier: Apache-2.0
"""The key area of a disk, opened again step by step as the specification says; QEMU opens it in the integration tests.

Independent of the code under test: numbers stand here as "LUKS On-Disk Format Specification" 1.2.3 gives them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hypervisor.luks import HEADER_SIZE, encode_key_area

PASSPHRASE, UUID = b"5a" * 32, "33333333-3333-4333-8333-333333333333"


def counted() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield hashlib.sha512(str(number).encode()).digest()


def made(passphrase: bytes = PASSPHRASE) -> tuple[bytes, bytes]:
    """A key area and the disk's key, which is the first that was drawn."""
    stream = counted()
    drawn: list[bytes] = []

    def random(length: int) -> bytes:
        drawn.append(next(stream)[:length])
        return drawn[-1]

    return encode_key_area(passphrase, UUID, random), drawn[0]


def opened(area: bytes, passphrase: bytes) -> bytes:
    """The key that a passphrase gives (sections 4.2 and 2.4)."""
    active, rounds, salt, place, stripes = struct.unpack_from(">II32sII", area, 208)
    assert (active, stripes) == (0x00AC71F3, 4000)
    by = hashlib.pbkdf2_hmac("sha256", passphrase, salt, rounds, 64)
    material = b""
    for number in range(64 * stripes // 512):
        sector = area[place * 512 + number * 512 :][:512]
        cipher = Cipher(algorithms.AES(by), modes.XTS(number.to_bytes(16, "little"))).decryptor()
        material += cipher.update(sector) + cipher.finalize()
    mixed = bytes(64)
    for number in range(stripes - 1):
        mixed = bytes(a ^ b for a, b in zip(mixed, material[64 * number :][:64], strict=True))
        halves = (struct.pack(">I", index) + mixed[32 * index :][:32] for index in (0, 1))
        mixed = b"".join(hashlib.sha256(half).digest() for half in halves)
    return bytes(a ^ b for a, b in zip(mixed, material[-64:], strict=True))


def test_the_passphrase_gives_the_disks_key_and_no_other_does() -> None:
    area, key = made()
    digest, salt, rounds = struct.unpack_from(">20s32sI", area, 112)
    assert opened(area, PASSPHRASE) == key
    assert hashlib.pbkdf2_hmac("sha256", key, salt, rounds, 20) == digest
    assert opened(area, b"a5" * 32) != key


def test_the_header_says_what_it_is() -> None:
    area, key = made()
    assert len(area) == HEADER_SIZE
    assert area[:8] == b"LUKS\xba\xbe\0\1"
    assert [area[8:40].strip(b"\0"), area[40:72].strip(b"\0"), area[72:104].strip(b"\0")] == [
        b"aes", b"xts-plain64", b"sha256",
    ]  # fmt: skip
    assert struct.unpack_from(">II", area, 104) == (HEADER_SIZE // 512, 64)
    assert area[168:208].strip(b"\0").decode() == UUID
    slots = [struct.unpack_from(">II32sII", area, 208 + 48 * slot) for slot in range(8)]
    assert [slot[0] for slot in slots] == [0x00AC71F3, *[0x0000DEAD] * 7]
    assert len({slot[3] for slot in slots}) == 8
    assert key not in area
    assert PASSPHRASE not in area


def test_a_passphrase_that_could_be_guessed_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_key_area(b"secret", UUID, bytes)
