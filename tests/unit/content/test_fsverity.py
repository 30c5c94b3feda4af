# SPDX-License-Identifier: Apache-2.0
"""Our digests equal those of the kernel's own tool, for every shape of tree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.errors import DigestMismatch, Missing, StorageFailed
from content.fsverity import (
    BLOCK,
    UNIT,
    Algorithm,
    Measured,
    digest_bytes,
    digest_descriptor,
    digest_file,
    digest_leaves,
    hash_blocks,
    verify_file,
)

EMPTY = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
"""``fsverity digest /dev/null``'s value for an empty file."""

# One block of hashes holds 128 (SHA-256) or 64 (SHA-512); the last sizes need a third level of hashes.
SIZES = [0, 1, 4095, 4096, 4097, 63 * 4096, 64 * 4096 + 1, 128 * 4096, 128 * 4096 + 1, 129 * 4096]
SIZES += [UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 3 * UNIT + 4097, 64 * 64 * 4096 + 1, 128 * 128 * 4096 + 1]


def pattern(size: int) -> bytes:
    """Bytes of which no two blocks are equal."""
    return b"".join(number.to_bytes(8, "big") * (BLOCK // 8) for number in range(size // BLOCK + 1))[:size]


def by_the_tool(path: Path, algorithm: Algorithm = Algorithm.SHA256) -> str:
    """What ``fsverity digest`` says."""
    command = ["fsverity", "digest", "--compact", f"--hash-alg={algorithm.name.lower()}", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("size", SIZES)
def test_every_shape_of_tree_equals_the_tool(tmp_path: Path, size: int, algorithm: Algorithm) -> None:
    path, data = tmp_path / "file", pattern(size)
    path.write_bytes(data)
    expected = by_the_tool(path, algorithm)
    assert digest_bytes(data, algorithm) == expected
    assert digest_file(path, algorithm) == Measured(fsverity=expected, length=size)


def test_an_empty_file_has_a_root_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert digest_bytes(b"") == EMPTY == digest_file(path).fsverity == by_the_tool(path)


def test_any_bytes_equal_the_tool(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"

    @given(st.binary(max_size=3 * BLOCK))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        assert digest_bytes(data) == by_the_tool(path) == digest_file(path).fsverity

    check()


@given(st.binary(max_size=5 * BLOCK))
def test_leaves_lead_to_the_same_digest(data: bytes) -> None:
    assert digest_leaves(hash_blocks(data), len(data)) == digest_bytes(data)


@given(st.binary(min_size=1, max_size=3 * BLOCK), st.data())
def test_one_bit_changes_the_digest(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    assert digest_bytes(bytes(changed)) != digest_bytes(data)
    assert digest_bytes(data + b"\0") != digest_bytes(data)


def test_leaves_of_another_length_are_a_bug() -> None:
    with pytest.raises(ValueError, match="leaves"):
        digest_leaves(hash_blocks(bytes(BLOCK)), BLOCK + 1)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("places", [[], [0], [UNIT - 1], [UNIT], [3 * UNIT + 5], [0, 2 * UNIT, 5 * UNIT + 9000]])
def test_holes_are_not_read_and_count_all_the_same(tmp_path: Path, places: list[int], algorithm: Algorithm) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"data")
        file.truncate(6 * UNIT + 100)
    assert digest_file(path, algorithm).fsverity == by_the_tool(path, algorithm)


def test_a_hole_counts_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2 * UNIT + 5)
    assert digest_file(path).fsverity == digest_bytes(bytes(2 * UNIT + 5))


def test_the_position_of_a_descriptor_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(10_000))
    with path.open("rb") as file:
        file.seek(5000)
        assert digest_descriptor(file.fileno(), path).fsverity == digest_bytes(pattern(10_000))
        assert file.tell() == 5000


@pytest.mark.parametrize("size", [10, 2 * UNIT])
def test_a_flipped_bit_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(size))
    good = digest_file(path)
    verify_file(path, good.fsverity, good.length)

    data = bytearray(pattern(size))
    data[size // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(DigestMismatch) as refused:
        verify_file(path, good.fsverity, good.length)
    assert refused.value.expected == good.fsverity
    assert refused.value.found == by_the_tool(path)


def test_another_length_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**43)  # Hashing it would take hours.
    with pytest.raises(DigestMismatch) as refused:
        verify_file(path, EMPTY, 0)
    assert (refused.value.expected, refused.value.found) == ("0 bytes", f"{2**43} bytes")


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "pipe", "link", "link to a device"],
)
def test_what_is_not_a_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "it")
    with pytest.raises(StorageFailed):
        digest_file(tmp_path / "it")
    with pytest.raises(StorageFailed):
        verify_file(tmp_path / "it", EMPTY, 0)


def test_a_link_is_followed_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert digest_file(tmp_path / "link", allow_link=True) == digest_file(tmp_path / "file")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        digest_file(tmp_path / "none")
