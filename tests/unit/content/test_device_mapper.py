# SPDX-License-Identifier: Apache-2.0
"""A device is dm-verity's by its table, which the kernel gives; the real one answers in the rig."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.device_mapper import is_verity, names_verity


def answer(*kinds: bytes, start: int = 312, name: bytes = b"root") -> bytes:
    """``struct dm_ioctl`` and its targets."""
    head = struct.pack(
        "=3I3Ii3IQ128s129s7x", 4, 47, 0, 16384, start, len(kinds), 1, 0, 0, 0, 0xFD00, name, b""
    )  # fmt: skip
    targets = b"".join(struct.pack("=QQiI16s", 0, 8, 0, 40, kind) for kind in kinds)
    return (head.ljust(start, b"\0") + targets).ljust(16384, b"\0")


def test_one_target_of_that_type_is() -> None:
    assert names_verity(answer(b"verity"))


@pytest.mark.parametrize("kinds", [(), (b"linear",), (b"verity", b"linear"), (b"verity", b"verity"), (b"verityx",)])
def test_another_table_is_not(kinds: tuple[bytes, ...]) -> None:
    assert not names_verity(answer(*kinds))


def test_a_name_says_nothing() -> None:
    assert not names_verity(answer(b"linear", name=b"verity"))


def test_a_table_beyond_the_answer_is_none() -> None:
    assert not names_verity(answer(b"verity", start=16300)[:16310])
    assert not names_verity(b"")


@given(st.binary(max_size=400))
def test_other_bytes_are_none(data: bytes) -> None:
    assert not names_verity(data)


@pytest.mark.parametrize("device", ["254:0", "0:21", "1048575:1048575", "", "a:b", "1", "-1:0"])
def test_what_is_no_device_of_the_mapper_is_not(device: str) -> None:
    assert not is_verity(device)
