# SPDX-License-Identifier: Apache-2.0
"""The agent ends between any two instructions of an extend: log and TPM are one again when it is back.

The file's effects outlive a killed process whole, and a power cut takes TPM registers and log away together; so the
cuts here are those of a process, at each instruction, with a real swtpm that goes on.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from content import durable
from documents.event import MeasuredEvent
from lab.measuring import booted, launch, platform, started, stopped, switched
from lab.tpm import SoftwareTpm
from measure import log as log_module
from measure.cel import replay
from measure.log import MeasurementLog
from measure.tpm import Tpm, registers

KILLED, FINISHED, BROKEN = 77, 78, 79
ONE = platform(1)
TWO = platform(2, predecessors=(ONE,))
WATCHED = {module.__file__ for module in (log_module, durable, registers)}
BY_INSTRUCTION = {log_module.__file__}
"""Where each instruction is one place for a cut; elsewhere each line is."""

EVENTS = (
    booted(ONE)[0],
    switched(TWO)[0],
    started("desk", 1),
    stopped("desk", 1),
    launch("host", "host/settings", "ab" * 32),
)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "chip") as found:
        yield found


def extend_until(log: MeasurementLog, event: tuple[int, MeasuredEvent], last: int) -> int:
    """Extend in a child process that ends before an instruction; returns how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    passed = 0

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in WATCHED:
            return None
        fine = frame.f_code.co_filename in BY_INSTRUCTION
        frame.f_trace_opcodes, frame.f_trace_lines = fine, not fine
        if kind in ("opcode", "line"):
            passed += 1
            if passed > last:
                os._exit(KILLED)
        return trace

    try:
        sys.settrace(trace)
        log.extend(*event)
        sys.settrace(None)
        os._exit(FINISHED)
    finally:
        # Only an exception comes here.
        os._exit(BROKEN)


def test_a_cut_before_any_instruction_is_made_good(tmp_path: Path, chip: SoftwareTpm) -> None:
    ended, last, seen, forms = KILLED, 0, set(), itertools.cycle(EVENTS)
    with Tpm.open(chip.tcti) as tpm:
        while ended == KILLED:
            event = next(forms)
            log = MeasurementLog.open(tmp_path / "logs", tpm)
            before = log.records()
            ended = extend_until(log, event, last)
            assert ended in (KILLED, FINISHED)
            after = MeasurementLog.open(tmp_path / "logs", tpm).records()
            assert all(tpm.read_pcrs(alg, (12, 13)) == replay(after, alg) for alg in tpm.banks())
            done = len(after) - len(before)
            assert after[: len(before)] == before
            assert [entry.content for entry in after[len(before) :]] == [event[1]] * done
            # Either not at all or once; and when it had returned, it is there.
            assert done == 1 if ended == FINISHED else done in (0, 1)
            seen.add((ended, done))
            last += 1
    assert seen == {(KILLED, 0), (KILLED, 1), (FINISHED, 1)}
    assert last > 100, "instructions were counted"
