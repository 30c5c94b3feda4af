# SPDX-License-Identifier: Apache-2.0
"""The kernel's word on fs-verity is taken only for a tree like ours; anything else is read.

The real kernel answers in the rig (``tests/rig/test_smoke.py``); here are its answers, and real files without.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.fsverity import digest_bytes, hash_blocks
from content.verity_ioctl import judge, kernel_digest

DATA = b"content\n" * 1000
DIGEST = digest_bytes(DATA)
ROOT = hashlib.sha256(hash_blocks(DATA).ljust(4096, b"\0")).digest()


def about(**changed: int | bytes) -> bytes:
    """``struct fsverity_descriptor`` of ``DATA``, as the kernel gives it."""
    fields: dict[str, int | bytes] = {
        "version": 1, "hash_algorithm": 1, "log_blocksize": 12, "salt_size": 0, "sig_size": 0, "data_size": len(DATA),
        "root_hash": ROOT, "salt": b"", "reserved": b"",
    }  # fmt: skip
    return struct.pack("<BBBBIQ64s32s144s", *(fields | changed).values())


def answer(described: bytes, number: int = 1, name: str = "sha256") -> bytes:
    """``struct fsverity_digest``: the hash of a description, in room for the largest."""
    digest = hashlib.new(name, described).digest()
    return struct.pack("<HH", number, len(digest)) + digest.ljust(64, b"\0")


def test_the_kernels_digest_is_the_one_of_reading() -> None:
    assert judge(answer(about()), about(), len(DATA), 1) == DIGEST


def test_sha512_is_told_as_well() -> None:
    root = hashlib.sha512(b"root").digest()
    described = about(hash_algorithm=2, root_hash=root)
    assert judge(answer(described, 2, "sha512"), described, len(DATA), 2) == hashlib.sha512(described).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"hash_algorithm": 2},
        {"log_blocksize": 10},
        {"log_blocksize": 16},
        {"salt_size": 8, "salt": b"saltsalt"},
        {"salt": b"salt"},
        {"data_size": len(DATA) - 1},
        {"reserved": b"\1"},
    ],
    ids=str,
)
def test_a_tree_of_another_kind_is_not_taken(changed: dict[str, int | bytes]) -> None:
    described = about(**changed)
    assert judge(answer(described), described, len(DATA), 1) is None


def test_a_digest_of_another_hash_is_not_taken() -> None:
    assert judge(answer(about(), number=2), about(), len(DATA), 1) is None
    assert judge(answer(about()), about(), len(DATA), 2) is None


def test_a_digest_that_does_not_cover_the_description_is_not_taken() -> None:
    assert judge(answer(about(root_hash=bytes(32))), about(), len(DATA), 1) is None


@pytest.mark.parametrize("length", [0, 3, 255, 257])
def test_a_description_that_was_cut_is_not_taken(length: int) -> None:
    assert judge(answer(about()), about().ljust(300, b"\0")[:length], len(DATA), 1) is None


@given(st.binary(min_size=68, max_size=68), st.binary(max_size=300), st.sampled_from([1, 2]))
def test_any_other_answer_is_not_taken(told: bytes, described: bytes, algorithm: int) -> None:
    assert judge(told, described, len(DATA), algorithm) is None


def test_a_file_without_fsverity_must_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        assert kernel_digest(file.fileno(), len(DATA), 1) is None


def test_what_is_no_file_has_no_digest() -> None:
    reading, writing = os.pipe()
    assert kernel_digest(reading, 0, 1) is None
    os.close(reading)
    os.close(writing)
    assert kernel_digest(reading, 0, 1) is None
