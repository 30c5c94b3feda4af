# SPDX-License-Identifier: Apache-2.0
"""The page that holds the host's key: given out on its terms alone, locked, out of dumps, and overwritten."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from agent import key_memory
from agent.key_memory import KeyMemory, KeyTerms
from documents.release import SignedPolicy

POLICY = SignedPolicy(entry="fresh", predecessor=0, epoch=1, pcrs=((13, "ab" * 32),), signature=bytes(64))
TERMS = KeyTerms(sealed=b"blob", policies=(POLICY,), pcrs=((13, bytes(32)),))
KEY = b"\x5a" * 32


@pytest.fixture
def memory() -> KeyMemory:
    made = KeyMemory()
    made.keep(KEY, TERMS)
    return made


def test_it_is_given_out_on_its_terms_alone(memory: KeyMemory) -> None:
    assert memory.recall(TERMS) == KEY
    for other in (
        replace(TERMS, sealed=b"bloc"),
        replace(TERMS, policies=()),
        replace(TERMS, policies=(POLICY, POLICY)),
        replace(TERMS, pcrs=((13, b"\x01" * 32),)),
        replace(TERMS, pcrs=()),
        replace(TERMS, pcrs=((11, bytes(32)), (13, bytes(32)))),
    ):
        assert memory.recall(other) is None


def test_a_new_key_takes_the_place_of_the_old(memory: KeyMemory) -> None:
    other = replace(TERMS, sealed=b"new")
    memory.keep(b"\x33" * 16, other)
    assert memory.recall(TERMS) is None
    assert memory.recall(other) == b"\x33" * 16


def test_what_is_forgotten_is_overwritten(memory: KeyMemory) -> None:
    page = memory._page
    assert page is not None
    assert KEY in page[:]
    memory.forget()
    assert memory.recall(TERMS) is None
    assert page[:] == bytes(len(page))


def test_nothing_is_kept_before_something_was() -> None:
    memory = KeyMemory()
    memory.forget()
    assert memory.recall(TERMS) is None


def test_the_page_is_locked_and_neither_dumped_nor_inherited(memory: KeyMemory) -> None:
    """As the kernel says it (proc_pid_smaps(5)): lo is locked, dd not dumped, dc not copied at a fork."""
    assert memory._page is not None
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory._page))
    flags: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        start, dash, end = first.partition("-")
        if dash and not first.endswith(":"):
            inside = int(start, 16) <= address < int(end, 16)
        elif inside and first == "VmFlags:":
            flags = rest.split()
    assert {"lo", "dd", "dc"} <= set(flags)


def test_where_no_page_can_be_locked_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_memory, "_locked_page", lambda: None)
    memory = KeyMemory()
    memory.keep(KEY, TERMS)
    assert memory.recall(TERMS) is None
    memory.forget()
