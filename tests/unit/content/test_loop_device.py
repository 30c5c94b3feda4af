# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of a loop device, read."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.loop_device import Backing, backing_of, parse_info

INFO = struct.Struct("=5Q4I64s64s32s2Q")


def _info(device: int = 0xFE01, *, offset: int = 0, limit: int = 0, encryption: int = 0, flags: int = 5) -> bytes:
    return INFO.pack(device, 1234, 0, offset, limit, 3, encryption, 0, flags, b"/image", b"", b"", 0, 0)


def test_the_file_and_how_it_is_shown() -> None:
    assert parse_info(_info()) == Backing(device=os.makedev(254, 1), inode=1234, whole=True, read_only=True)


@pytest.mark.parametrize(("major", "minor"), [(8, 1), (254, 300), (259, 0x12345)])
def test_a_device_with_many_minors_is_the_same_as_stat_tells(major: int, minor: int) -> None:
    number = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    found = parse_info(_info(number))
    assert found is not None
    assert found.device == os.makedev(major, minor)


@pytest.mark.parametrize("part", [{"offset": 4096}, {"limit": 4096}, {"encryption": 1}])
def test_a_part_of_a_file_is_not_all_of_it(part: dict[str, int]) -> None:
    found = parse_info(_info(**part))
    assert found is not None
    assert not found.whole


def test_one_that_can_be_written_through_is_told() -> None:
    found = parse_info(_info(flags=4))
    assert found is not None
    assert not found.read_only


@pytest.mark.parametrize("device", ["8:1", "7", "", "7:", "7:x", "7:1048575", "x:1"])
def test_what_is_no_loop_device_shows_no_file(device: str) -> None:
    assert backing_of(device) is None


@given(st.binary(max_size=300))
def test_other_answers_are_no_file(data: bytes) -> None:
    found = parse_info(data)
    assert found is None or len(data) == INFO.size
