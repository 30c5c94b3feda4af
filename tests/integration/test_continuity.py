# SPDX-License-Identifier: Apache-2.0
"""A host that sleeps, hibernates, is started anew or by kexec, on a real swtpm that is started in each of these ways.

The kernel's side is told by hand: its boot id, and the jump between its clocks. Each agent of a story is a new
``Continuity`` over the same files, as a restarted agent has them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tpm2_pytss as tss

from agent import continuity as module
from agent.audit import AuditTrail, records, verify
from agent.continuity import Continuity
from agent.paths import HostPaths
from lab.measuring import booted, platform
from lab.tpm import SoftwareTpm
from measure.continuity import Clocks
from measure.errors import BootBroken, LogRefused, PcrInUse
from measure.log import MeasurementLog
from measure.tpm import Tpm

BOOT, NEXT = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
EVENTS = booted(platform(1))


class Line:
    """A TPM device that outlives the power of the TPM behind it, as /dev/tpmrm0 outlives a sleep."""

    def __init__(self, chip: SoftwareTpm) -> None:
        self.chip = chip
        self.tpm = Tpm.open(chip.tcti)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tpm, name)

    def cut(self, *, said: bool, resume: bool) -> None:
        """Off and on; ``said``: the kernel said Shutdown(STATE) before; ``resume``: Startup(STATE), not CLEAR."""
        if said:
            self.tpm._esys.shutdown(tss.TPM2_SU.STATE)
        self.tpm.close()
        self.chip.stop()
        self.chip.start(resume=resume)
        self.tpm = Tpm.open(self.chip.tcti)


class Kernel:
    """The clocks of a kernel that sleeps when it is told."""

    def __init__(self) -> None:
        self.now = Clocks(boottime=0, monotonic=0)

    def sleep(self) -> None:
        self.now = Clocks(boottime=self.now.boottime + 3_600 * 10**9, monotonic=self.now.monotonic + 1)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with SoftwareTpm(tmp_path / "t") as chip:
        line = Line(chip)
        yield line
        line.tpm.close()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(module, "_clocks", lambda: kernel.now)
    return kernel


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(tmp_path / "root")


def begun(paths: HostPaths, line: Line, boot: str = BOOT) -> Continuity:
    """An agent that starts."""
    agent = Continuity(paths, line, AuditTrail(paths.audit, lambda: 7, boot), boot)
    agent.note()
    return agent


def measured(paths: HostPaths, line: Line) -> MeasurementLog:
    log = MeasurementLog.open(paths.measurements, line)
    for pcr, event in EVENTS[len(log.records()) :]:
        log.extend(pcr, event)
    return log


def recorded(paths: HostPaths) -> list[tuple[str, str]]:
    verify(paths.audit)
    return [(record.event, record.outcome) for record in records(paths.audit)]


def test_a_sleep_that_keeps_the_tpms_state_goes_on(paths: HostPaths, line: Line, kernel: Kernel) -> None:
    agent, log = begun(paths, line), measured(paths, line)
    before = line.clock()
    for times in (1, 2):
        line.cut(said=True, resume=True)
        kernel.sleep()
        assert agent.look(log)
        assert (line.clock().reset_count, line.clock().restart_count) == (
            before.reset_count,
            before.restart_count + times,
        )
    agent.require_whole()
    assert agent.finding().outcome == "pass"
    assert recorded(paths) == [("host-resume", "done")] * 2
    # An agent that is restarted meanwhile goes on as well.
    assert not begun(paths, line).broken
    assert measured(paths, line).records() == log.records()


def test_without_a_sleep_the_tpm_is_not_asked(paths: HostPaths, line: Line, kernel: Kernel) -> None:
    agent, log = begun(paths, line), measured(paths, line)
    line.tpm.close()
    assert agent.look(log)
    assert recorded(paths) == []


@pytest.mark.parametrize("said", [True, False], ids=["restart", "reset"])
def test_a_sleep_that_lost_the_pcrs_breaks_the_boot_off(
    paths: HostPaths, line: Line, kernel: Kernel, said: bool
) -> None:
    """Firmware that does not resume the TPM, and hibernation: the kernel is the same, the TPM was started anew."""
    agent, log = begun(paths, line), measured(paths, line)
    line.cut(said=said, resume=False)
    kernel.sleep()
    assert not agent.look(log)
    assert not agent.look(log), "and stays so"
    with pytest.raises(BootBroken):
        agent.require_whole()
    assert (agent.finding().check, agent.finding().outcome) == ("boot-continuity", "fail")
    assert recorded(paths) == [("host-resume", "refused")]
    # No agent measures anew over it, although the PCRs invite to it: what ran before would never have run.
    if said:
        with pytest.raises(LogRefused):
            measured(paths, line)
    else:
        for _ in range(2):
            with pytest.raises(BootBroken):
                begun(paths, line).require_whole()


def test_a_change_of_the_pcrs_during_a_sleep_breaks_the_boot_off(paths: HostPaths, line: Line, kernel: Kernel) -> None:
    agent, log = begun(paths, line), measured(paths, line)
    line.cut(said=True, resume=True)
    line.extend(13, b"by something that ran before the kernel woke")
    kernel.sleep()
    assert not agent.look(log)


def test_a_tpm_that_does_not_answer_after_a_sleep_breaks_the_boot_off(
    paths: HostPaths, line: Line, kernel: Kernel
) -> None:
    agent, log = begun(paths, line), measured(paths, line)
    line.chip.stop()
    kernel.sleep()
    assert not agent.look(log)
    assert agent.finding().outcome == "fail"


def test_a_reboot_starts_anew_also_after_a_sleep_whose_battery_died(paths: HostPaths, line: Line) -> None:
    for said in (False, True):
        begun(paths, line)
        measured(paths, line)
        line.cut(said=said, resume=False)
        shutil.rmtree(paths.run)
        boot = NEXT if said else BOOT.replace("1", "2")
        agent = begun(paths, line, boot)
        assert not agent.broken
        assert measured(paths, line).in_step()


def test_a_kernel_that_came_by_kexec_is_told_from_another_user_of_the_pcrs(paths: HostPaths, line: Line) -> None:
    begun(paths, line)
    measured(paths, line)
    shutil.rmtree(paths.run)
    agent = begun(paths, line, NEXT)
    with pytest.raises(PcrInUse) as used:
        measured(paths, line)
    told = agent.told(used.value)
    assert isinstance(told, BootBroken)
    assert "kexec" in told.cause
    # Without an earlier boot under this start of the TPM it is somebody else.
    paths.last_boot.unlink()
    shutil.rmtree(paths.run)
    assert begun(paths, line, NEXT).told(used.value) is used.value


def test_files_that_are_not_read_lose_no_host(paths: HostPaths, line: Line) -> None:
    begun(paths, line)
    paths.boot.write_bytes(b"{}")
    paths.last_boot.write_bytes(b"\xff")
    assert not begun(paths, line).broken
