# SPDX-License-Identifier: Apache-2.0
"""An administrator's baseline on a real swtpm: made in approved states only; others' and older ones are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit import AuditTrail, records, verify
from agent.baselines import Baselines, proposal
from agent.errors import BaselineChanged, PolicyRefused
from agent.paths import HostPaths
from content import durable
from content.fsverity import digest_bytes
from documents.baseline import Baseline, SignedBaseline
from documents.local_listing import UNREADABLE
from lab.measuring import POLICY, PUBLISHER, booted, digest, platform
from lab.tpm import SoftwareTpm
from measure.baseline import verify_baseline
from measure.errors import BaselineRefused, SealShut
from measure.local import SUBJECTS
from measure.tpm import Tpm

ONE = platform(1, epochs=(0, 1))
BOOT = "11111111-2222-3333-4444-555555555555"
FOUND = {subject: digest(subject) for subject in SUBJECTS}
APPROVED = replace(POLICY, local="approved")


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "t") as chip:
        yield chip


@pytest.fixture
def tpm(chip: SoftwareTpm) -> Iterator[Tpm]:
    """Of a host that booted into release 1."""
    with Tpm.open(chip.tcti) as tpm:
        for pcr, event in booted(ONE):
            tpm.extend(pcr, event.encode())
        yield tpm


@pytest.fixture
def paths(tmp_path: Path, tpm: Tpm) -> HostPaths:
    paths = HostPaths(tmp_path)
    durable.make_directory(paths.ak.parent)
    durable.write_file(paths.ak, tpm.create_ak())
    return paths


def baselines(paths: HostPaths, tpm: Tpm) -> Baselines:
    """As an agent that starts has them."""
    return Baselines(paths, tpm, AuditTrail(paths.audit, lambda: 7, BOOT), lambda: 7)


def approve(held: Baselines, found: dict[str, str] = FOUND) -> int:
    return held.approve(found, proposal(found), ONE, APPROVED, "command of alice (uid 0)")


def trail(paths: HostPaths) -> list[tuple[str, str, str]]:
    verify(paths.audit)
    return [(r.event, r.outcome, dict(r.details)["number"]) for r in records(paths.audit)]


def test_a_baseline_is_recorded_then_signed_and_read_again_by_the_next_agent(paths: HostPaths, tpm: Tpm) -> None:
    held, handles = baselines(paths, tpm), tpm.handles()
    assert held.approved() is None
    assert approve(held) == 1
    assert trail(paths) == [("baseline-approve", "started", "1"), ("baseline-approve", "done", "1")]
    for agent in (held, baselines(paths, tpm)):
        approved = agent.approved()
        assert approved is not None
        assert approved.fsverity == agent.digest() == digest_bytes(paths.baseline.read_bytes())
        assert dict(approved.baseline.entries) == FOUND
        assert (approved.baseline.actor, approved.key) == ("command of alice (uid 0)", PUBLISHER.public())
        assert not agent.refusal
    assert tpm.handles() == handles, "the key that signed is gone"
    assert len(paths.baseline.read_bytes()) < 6_000, "it travels in each evidence"


def test_an_older_baseline_that_was_put_back_counts_for_nothing(paths: HostPaths, tpm: Tpm) -> None:
    held = baselines(paths, tpm)
    approve(held)
    older = paths.baseline.read_bytes()
    assert approve(held, {**FOUND, "host/settings": digest("new")}) == 2
    newer = paths.baseline.read_bytes()
    paths.baseline.write_bytes(older)
    for agent in (held, baselines(paths, tpm)):
        assert agent.approved() is None
        assert "number 1, and number 2 was approved" in agent.refusal
    paths.baseline.write_bytes(newer)
    assert held.approved() is not None
    # The way out: what is there now is looked at and approved, above both.
    paths.baseline.write_bytes(older)
    assert approve(baselines(paths, tpm)) == 3


def test_a_baseline_that_was_taken_away_is_missed(paths: HostPaths, tpm: Tpm) -> None:
    held = baselines(paths, tpm)
    approve(held)
    paths.baseline.unlink()
    assert held.approved() is None
    assert "not there any more" in held.refusal
    assert approve(baselines(paths, tpm)) == 2


@pytest.mark.parametrize("cut", ["before it is written", "before it is recorded as done"])
def test_a_cut_within_an_approval_leaves_the_old_or_the_new_baseline(
    paths: HostPaths, tpm: Tpm, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    class PowerCut(Exception):
        pass

    held = baselines(paths, tpm)
    approve(held)
    later = {**FOUND, "host/settings": digest("later")}
    write = durable.write_file

    def cut_off(path: Path, data: bytes, mode: int = 0o600) -> None:
        if path == paths.baseline:
            if cut != "before it is written":
                write(path, data, mode)
            raise PowerCut
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", cut_off)
        with pytest.raises(PowerCut):
            approve(held, later)
    next_agent = baselines(paths, tpm)
    found = next_agent.approved()
    assert found is not None
    expected = (1, FOUND) if cut == "before it is written" else (2, later)
    assert (found.baseline.sequence, dict(found.baseline.entries)) == expected
    assert approve(next_agent) == expected[0] + 1


def test_nothing_is_approved_in_a_state_that_nobody_signed(paths: HostPaths, tpm: Tpm) -> None:
    held = baselines(paths, tpm)
    tpm.extend(13, b"something that nobody signed")
    with pytest.raises(SealShut):
        approve(held)
    assert trail(paths)[-1] == ("baseline-approve", "failed", "1")
    assert not paths.baseline.exists()
    assert baselines(paths, tpm).approved() is None


def test_what_changed_since_it_was_shown_is_not_approved(paths: HostPaths, tpm: Tpm) -> None:
    held = baselines(paths, tpm)
    with pytest.raises(BaselineChanged):
        held.approve({**FOUND, "host/qemu.conf": digest("now")}, proposal(FOUND), ONE, APPROVED, "root")
    broken = {**FOUND, "host/qemu.conf": UNREADABLE}
    with pytest.raises(BaselineChanged, match="cannot be measured"):
        held.approve(broken, proposal(broken), ONE, APPROVED, "root")
    with pytest.raises(PolicyRefused):
        held.approve(FOUND, proposal(FOUND), ONE, replace(POLICY, local="publisher"), "root")
    assert trail(paths) == []
    assert not paths.baseline.exists()


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("part", ["baseline", "signature", "public", "channel", "key", "attest", "certification"])
def test_a_baseline_that_was_changed_anywhere_is_refused(paths: HostPaths, tpm: Tpm, part: str) -> None:
    held = baselines(paths, tpm)
    approve(held)
    signed = SignedBaseline.parse(paths.baseline.read_bytes())
    if part == "baseline":
        lie = replace(Baseline.parse(signed.baseline), entries=(("host/settings", digest("of the attacker")),))
        forged = replace(signed, baseline=lie.encode())
    elif part == "channel":
        forged = replace(signed, channel="another")
    elif part == "key":
        forged = replace(signed, key=replace(signed.key, x=signed.key.y))
    else:
        forged = replace(signed, **{part: _flipped(getattr(signed, part))})
    with pytest.raises(BaselineRefused):
        verify_baseline(forged.encode(), paths.ak.read_bytes())
    paths.baseline.write_bytes(forged.encode())
    assert held.approved() is None
    assert held.refusal


def test_another_hosts_baseline_is_refused(paths: HostPaths, tpm: Tpm, tmp_path: Path) -> None:
    approve(baselines(paths, tpm))
    stolen = paths.baseline.read_bytes()
    with SoftwareTpm(tmp_path / "u") as other, Tpm.open(other.tcti) as theirs:
        ak = theirs.create_ak()
    with pytest.raises(BaselineRefused):
        verify_baseline(stolen, ak)


def test_a_key_that_works_in_any_state_signs_no_baseline(paths: HostPaths, tpm: Tpm) -> None:
    """The audit key's certification is for another purpose, and a key without a policy is none of ours."""
    held = baselines(paths, tpm)
    approve(held)
    signed = SignedBaseline.parse(paths.baseline.read_bytes())
    public, private = tpm.create_purpose_key(bytes(32))
    attest, certification = tpm.certify(public, private, digest("another purpose").encode()[:32])
    forged = replace(signed, public=public[2:], attest=attest, certification=certification)
    with pytest.raises(BaselineRefused):
        verify_baseline(forged.encode(), paths.ak.read_bytes())


@pytest.mark.parametrize("untrusted", [b"", b"{}", b"\xff" * 100, b"0" * 50_000])
def test_what_is_no_baseline_is_refused(untrusted: bytes, paths: HostPaths, tpm: Tpm) -> None:
    with pytest.raises(BaselineRefused):
        verify_baseline(untrusted, paths.ak.read_bytes())
    if untrusted:
        paths.baseline.write_bytes(untrusted[:1_000])
        assert baselines(paths, tpm).approved() is None
