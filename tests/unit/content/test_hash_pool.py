# SPDX-License-Identifier: Apache-2.0
"""A large file is hashed by several processes, and by one where the others fail: the digest is the same."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from content import hash_worker, worker_pool
from content.errors import StorageFailed
from content.fsverity import UNIT, Algorithm, digest_bytes, digest_file
from content.worker_pool import WORTH

SIZE = (WORTH + 3) * UNIT + 5


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that is worth several processes."""
    path = tmp_path_factory.mktemp("image") / "image"
    with path.open("wb") as file:
        for number in range(SIZE // 4096 + 1):
            file.write(number.to_bytes(8, "big") * 512)
        file.truncate(SIZE)
    yield path
    path.unlink()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started, although the machine may have one core."""
    processes: list[subprocess.Popen[bytes]] = []
    start = worker_pool._start

    def noting(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        processes.append(start(words, descriptors))
        return processes[-1]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(worker_pool, "_start", noting)
    return processes


def expected(path: Path, algorithm: Algorithm = Algorithm.SHA256) -> str:
    """What ``fsverity digest`` says."""
    command = ["fsverity", "digest", "--compact", f"--hash-alg={algorithm.name.lower()}", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_several_processes_come_to_the_digest_of_the_tool(
    image: Path, started: list[subprocess.Popen[bytes]], algorithm: Algorithm
) -> None:
    assert digest_file(image, algorithm).fsverity == expected(image, algorithm)
    assert [process.returncode for process in started] == [0, 0]


def test_a_small_file_is_hashed_by_one(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    data = os.urandom(3 * UNIT)
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file").fsverity == digest_bytes(data)
    assert not started


def test_holes_start_nobody(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(SIZE)
    assert digest_file(tmp_path / "file").fsverity == expected(tmp_path / "file")
    assert not started


@pytest.mark.parametrize("program", ["/nonexistent", "/bin/false", "/bin/true"])
def test_what_others_fail_at_is_done_alone(image: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    assert digest_file(image).fsverity == expected(image)


def test_a_process_that_is_killed_spoils_nothing(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = worker_pool._start

    def killed(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        process = start(words, descriptors)
        process.send_signal(signal.SIGKILL)
        return process

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(worker_pool, "_start", killed)
    assert digest_file(image).fsverity == expected(image)


def test_a_file_that_is_shortened_meanwhile_is_an_error_and_leaves_no_process(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    start = worker_pool._start

    def shortening(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        # The length was taken by now, and nothing was hashed.
        os.truncate(path, UNIT)
        return start(words, descriptors)

    monkeypatch.setattr(worker_pool, "_start", shortening)
    with pytest.raises(StorageFailed, match="shortened"):
        digest_file(path)
    assert all(process.returncode is not None for process in started)


def test_numbers_that_do_not_fit_into_the_pipe_all_get_done(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, feed = os.pipe()
    numbers = [number.to_bytes(4, "big") for number in range(100_000)]
    feeder = worker_pool._Feeder(feed, numbers)
    # Nobody else takes any: the starter must not wait for itself.
    assert sorted(feeder.taken(tasks)) == numbers
    os.close(tasks)


def test_the_worker_puts_each_hash_in_its_place(tmp_path: Path) -> None:
    data = os.urandom(3 * UNIT + 7)
    path = tmp_path / "file"
    path.write_bytes(data)
    tasks, feed = os.pipe()
    for number in (2, 0, 3):
        os.write(feed, number.to_bytes(4, "little"))
    os.close(feed)
    results = os.memfd_create("level")
    with path.open("rb") as file:
        hash_worker.main(["hash", *map(str, (tasks, file.fileno(), results, len(data))), "sha256"])
    leaves = [hashlib.sha256(data[at : at + 4096].ljust(4096, b"\0")).digest() for at in range(0, len(data), 4096)]
    level = [hashlib.sha256(b"".join(leaves[at : at + 128]).ljust(4096, b"\0")).digest() for at in (0, 128, 256, 384)]
    assert os.pread(results, 1000, 0) == level[0] + bytes(32) + level[2] + level[3]
    os.close(tasks)
    os.close(results)
