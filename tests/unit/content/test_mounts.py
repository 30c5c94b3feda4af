# SPDX-License-Identifier: Apache-2.0
"""On which file system an open file lies."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from content.mounts import Mount, Mounts, parse_fdinfo, parse_mountinfo

MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
41 27 0:31 / /mnt/a\040-\040b rw,relatime shared:2 master:1 - fuse.sshfs me@host:/ rw
"""
OPTIONS = frozenset({"rw", "relatime"})


def test_the_type_stands_after_however_many_fields() -> None:
    assert parse_mountinfo(MOUNTINFO) == {
        22: Mount(filesystem="proc", device="0:21", point="/proc", options=OPTIONS),
        27: Mount(filesystem="ext4", device="254:0", point="/", options=OPTIONS),
        41: Mount(filesystem="fuse.sshfs", device="0:31", point="/mnt/a - b", options=OPTIONS),
    }


def test_the_kernel_tells_what_is_open(tmp_path: Path) -> None:
    mounts = Mounts()
    with (tmp_path / "file").open("wb") as file, Path("/proc/self/status").open("rb") as other:
        found = mounts.of(file.fileno())
        assert found is not None
        assert found.filesystem != "proc"
        # btrfs gives each subvolume a number of its own.
        if found.filesystem != "btrfs":
            device = file.fileno()
            assert found.device == f"{os.major(os.fstat(device).st_dev)}:{os.minor(os.fstat(device).st_dev)}"
        inner = mounts.of(other.fileno())
        assert inner is not None
        assert inner.filesystem == "proc"


def test_what_is_not_open_is_on_no_mount() -> None:
    assert Mounts().of(10_000) is None


def test_a_mount_that_came_later_is_not_known() -> None:
    mounts = Mounts()
    mounts._mounts = {}
    with Path("/proc/self/status").open("rb") as file:
        assert mounts.of(file.fileno()) is None


@given(st.binary(max_size=200))
def test_other_bytes_name_no_mount(data: bytes) -> None:
    assert all(isinstance(number, int) for number in parse_mountinfo(data))
    assert parse_fdinfo(data) >= -1


def test_the_number_of_a_mount() -> None:
    assert parse_fdinfo(b"pos:\t0\nflags:\t0100000\nmnt_id:\t27\nino:\t5\n") == 27
    assert parse_fdinfo(b"pos:\t0\n") == parse_fdinfo(b"mnt_id:\tx\n") == -1
