# SPDX-License-Identifier: Apache-2.0
"""No bytes bring a parser to anything but a right answer or its own error, in bounded time and memory.

CI runs 1,000 cases of each subject, the environments `fuzz` and `long` 100,000. Cases are the same at each run: one is
made again from its subject and number alone, by `VMGATE_FUZZ=release:1234 .venv/bin/tox -e fuzz`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from documents.errors import VmgateError
from fuzz.bounds import TooLong, bounded, sized, timed
from fuzz.mutations import mutated
from fuzz.subjects import SUBJECTS

EACH = pytest.mark.parametrize("name", SUBJECTS)
FEW = range(1_000)
MANY = range(100_000)
SAMPLE = 50
"""One case in so many is run a second time to see how much memory it takes."""

LINE = 1_000
"""Characters of an error, at most."""


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    return tuple(SUBJECTS[name].seeds())


def made(name: str, number: int) -> bytes:
    """The bytes of a case."""
    subject = SUBJECTS[name]
    return mutated(random.Random(f"{name}:{number}"), seeds(name), subject.form, subject.words)


def chosen(name: str, numbers: Iterable[int]) -> Iterable[int]:
    """The numbers, or the one that ``VMGATE_FUZZ`` names."""
    wanted, _, number = os.environ.get("VMGATE_FUZZ", "").partition(":")
    if not wanted:
        return numbers
    assert wanted in SUBJECTS, f"VMGATE_FUZZ names none of {', '.join(SUBJECTS)}"
    return [int(number)] if wanted == name else []


def judge(name: str, folder: Path, untrusted: bytes) -> bool:
    """Whether the bytes were let through; anything but that and the subject's errors is raised."""
    subject = SUBJECTS[name]
    try:
        subject.check(folder, untrusted)
    except VmgateError as error:
        if not isinstance(error, subject.errors):
            raise
        line = error.line()
        assert line.isprintable()
        assert len(line) <= LINE
        return False
    return True


def run(name: str, numbers: Iterable[int], folder: Path) -> int:
    """Run cases; returns how many were let through."""
    passed = 0
    seeds(name)
    with bounded():
        for number in numbers:
            untrusted = made(name, number)
            try:
                with timed():
                    passed += judge(name, folder, untrusted)
                if number % SAMPLE == 0:
                    with sized(SUBJECTS[name].most):
                        judge(name, folder, untrusted)
            except (Exception, TooLong) as error:
                (folder / "finding").write_bytes(untrusted)
                raise AssertionError(
                    f"VMGATE_FUZZ={name}:{number} makes it again: {type(error).__name__}: {error!s:.300}; "
                    f"{len(untrusted)} bytes, in {folder}/finding, which begin with {untrusted[:200]!r}"
                ) from error
    return passed


@EACH
def test_seeds_are_let_through(name: str, tmp_path: Path) -> None:
    assert any(judge(name, tmp_path, seed) for seed in seeds(name))


@EACH
def test_no_bytes_do_harm(name: str, tmp_path: Path) -> None:
    numbers = chosen(name, FEW)
    # A parser that refused everything would pass too: some changes must come through to what lies behind its door.
    assert run(name, numbers, tmp_path) or numbers is not FEW


@pytest.mark.long
@pytest.mark.timeout(3_600)
@EACH
def test_no_bytes_of_very_many_do_harm(name: str, tmp_path: Path) -> None:
    run(name, chosen(name, MANY), tmp_path)


def test_a_case_is_made_again_from_its_number() -> None:
    assert [made("release", number) for number in range(40)] == [made("release", number) for number in range(40)]
    assert len({made("release", number) for number in range(40)}) > 30


def test_a_hanging_case_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.bounds.SECONDS", 0.05)
    with bounded(), pytest.raises(TooLong), timed():
        _hang()


def _hang() -> None:
    while True:
        pass


def test_a_case_that_takes_much_memory_is_found() -> None:
    with bounded(), pytest.raises(MemoryError):
        bytes(2**30)
    with pytest.raises(AssertionError, match="bytes of memory"), sized(1000):
        assert bytes(10_000)
