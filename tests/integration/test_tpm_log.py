# SPDX-License-Identifier: Apache-2.0
"""The measurement log and a real swtpm, kept in step through crashes, power cuts and other users of the PCRs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tpm2_pytss as tss

from content import durable
from lab.measuring import booted, launch, platform, reference, started, switched
from lab.tpm import SoftwareTpm
from measure.appraise import Claims, appraise
from measure.cel import encode_record, parse_log, record, replay
from measure.errors import LogRefused, PcrInUse, TpmFailed
from measure.log import MeasurementLog
from measure.pcr import LAUNCH_PCR, VMM_PCR
from measure.tpm import Tpm

ONE = platform(1)
EVENTS = booted(ONE)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "chip") as found:
        yield found


@pytest.fixture
def tpm(chip: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm.open(chip.tcti) as found:
        yield found


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def measured(logs: Path, tpm: Tpm) -> MeasurementLog:
    log = MeasurementLog.open(logs, tpm)
    for pcr, event in EVENTS:
        log.extend(pcr, event)
    return log


def in_step(log: MeasurementLog, tpm: Tpm) -> bool:
    return all(tpm.read_pcrs(alg, (12, 13)) == replay(log.records(), alg) for alg in tpm.banks())


def test_what_is_logged_is_what_the_tpm_holds(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    assert in_step(log, tpm)
    assert parse_log(log.path.read_bytes()) == log.records() == parse_log(log.encode())
    claims = Claims(chip=False, records=log.records(), pcrs=tpm.read_pcrs("sha256", (12, 13)))
    appraise(claims, reference(ONE), 1).require_trusted("nothing")


def test_a_restarted_agent_goes_on_in_the_same_log(logs: Path, tpm: Tpm) -> None:
    before = measured(logs, tpm)
    after = MeasurementLog.open(logs, tpm)
    assert after.records() == before.records()
    after.extend(*started("desk", 1))
    assert in_step(after, tpm)
    assert after.records()[-1].number == len(EVENTS)


def test_each_boot_has_a_log_of_its_own(logs: Path, chip: SoftwareTpm) -> None:
    paths = set()
    for _ in range(3):
        with Tpm.open(chip.tcti) as tpm:
            log = measured(logs, tpm)
            assert len(log.records()) == len(EVENTS)
            paths.add(log.path)
        chip.power_cycle()
    assert len(paths) == 3


def test_a_crash_between_log_and_extend_is_completed(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    lost = record(len(EVENTS), *started("desk", 1), tpm.banks())
    durable.append(log.path, encode_record(lost))
    recovered = MeasurementLog.open(logs, tpm)
    assert recovered.records()[-1] == lost
    assert in_step(recovered, tpm)
    # And only once.
    assert MeasurementLog.open(logs, tpm).records() == recovered.records()


def test_the_very_first_record_is_completed_too(logs: Path, tpm: Tpm) -> None:
    log = MeasurementLog.open(logs, tpm)
    durable.append(log.path, encode_record(record(0, *EVENTS[0], tpm.banks())))
    assert in_step(MeasurementLog.open(logs, tpm), tpm)


def test_a_crash_within_a_record_leaves_it_out(logs: Path, tpm: Tpm) -> None:
    """At every byte; what was not whole on the disk was not extended."""
    log = measured(logs, tpm)
    whole = log.path.read_bytes()
    line = encode_record(record(len(EVENTS), *started("desk", 1), tpm.banks()))
    for torn in [line[:end] for end in range(0, len(line), 7)] + [line[:-1], bytes(len(line)), line[:20] + bytes(50)]:
        log.path.write_bytes(whole + torn)
        assert MeasurementLog.open(logs, tpm).records() == log.records()
        assert log.path.read_bytes() == whole


def test_a_tpm_that_fails_once_leaves_a_log_that_is_completed(
    logs: Path, tpm: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = measured(logs, tpm)

    def fails(pcr: int, content: bytes) -> None:
        raise TpmFailed("no", cause="no", remedy="no")

    with monkeypatch.context() as patch:
        patch.setattr(tpm, "extend", fails)
        with pytest.raises(TpmFailed):
            log.extend(*started("desk", 1))
    assert len(log.records()) == len(EVENTS)
    log.extend(*started("lab", 1))
    assert [entry.content.subject for entry in log.records()[-2:]] == ["desk", "lab"]
    assert in_step(log, tpm)


@pytest.mark.parametrize("pcr", [LAUNCH_PCR, VMM_PCR])
def test_a_pcr_that_somebody_used_before_is_named(logs: Path, tpm: Tpm, pcr: int) -> None:
    tpm.extend(pcr, b"systemd")
    with pytest.raises(PcrInUse) as used:
        MeasurementLog.open(logs, tpm)
    assert f"PCR {pcr}" in used.value.what
    assert "systemd" in used.value.cause
    assert used.value.exit == 7
    assert not list(logs.iterdir())


def test_an_extend_besides_the_log_is_refused(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    tpm.extend(VMM_PCR, b"rootkit")
    before = log.path.read_bytes()
    with pytest.raises(LogRefused):
        MeasurementLog.open(logs, tpm)
    assert log.path.read_bytes() == before


def test_an_extend_of_one_bank_only_is_refused(logs: Path, tpm: Tpm) -> None:
    measured(logs, tpm)
    one = tss.TPML_DIGEST_VALUES.unmarshal(bytes.fromhex("00000001000c") + bytes(48))[0]
    tpm._esys.pcr_extend(tss.ESYS_TR(13), one)
    with pytest.raises(LogRefused):
        MeasurementLog.open(logs, tpm)


def test_a_log_that_was_edited_shortened_or_lengthened_is_refused(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    whole = log.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    two_more = [encode_record(record(len(EVENTS) + at, *started("desk", at), tpm.banks())) for at in range(2)]
    attacks = [
        b"".join(lines[:-1]),
        b"".join(lines[1:]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        whole.replace(b"vmm/host-files", b"vmm/host-fires"),
        b"".join([*lines, *two_more]),
        b"not a log\n",
    ]
    before = tpm.read_pcrs("sha256", (12, 13))
    for attack in attacks:
        log.path.write_bytes(attack)
        with pytest.raises(LogRefused):
            MeasurementLog.open(logs, tpm)
        assert tpm.read_pcrs("sha256", (12, 13)) == before


def test_a_log_that_was_removed_is_not_begun_anew(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    log.path.unlink()
    with pytest.raises(PcrInUse):
        MeasurementLog.open(logs, tpm)


def test_a_live_switch_is_appraised_with_the_tpms_own_values(logs: Path, tpm: Tpm) -> None:
    log = measured(logs, tpm)
    two = platform(2, predecessors=(ONE,))
    for pcr, event in [*switched(two), launch("key-drop", "desk", "0" * 64)]:
        log.extend(pcr, event)
    claims = Claims(chip=False, records=log.records(), pcrs=tpm.read_pcrs("sha256", (12, 13)))
    appraise(claims, reference(two), 1).require_trusted("nothing")
