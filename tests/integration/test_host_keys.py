# SPDX-License-Identifier: Apache-2.0
"""The host's key and its audit key on a real swtpm, as the agent keeps them: security epochs and signed heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit import AuditTrail, read_signed_head, signed_head_path, verify
from agent.audit_key import AuditKey, verify_signed_head
from agent.paths import HostPaths
from agent.vm_keys import VmKeys
from content import durable
from documents.audit import AuditBroken, AuditHead
from documents.host_state import PurposeKey, SealedKey
from lab.measuring import Signer, booted, platform, switched
from lab.tpm import SoftwareTpm
from measure import guard
from measure.errors import SealShut
from measure.policy import signed_by
from measure.tpm import Tpm

ONE = platform(1, epochs=(0, 1))
TWO = platform(2, predecessors=(ONE,), epoch=2, epochs=(0, 1, 2))
BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "t") as chip:
        yield chip


@pytest.fixture
def paths(tmp_path: Path, chip: SoftwareTpm) -> HostPaths:
    """A host that booted into release 1 and made its keys."""
    paths = HostPaths(tmp_path)
    durable.make_directory(paths.ak.parent)
    with Tpm.open(chip.tcti) as tpm:
        for pcr, event in booted(ONE):
            tpm.extend(pcr, event.encode())
        durable.write_file(paths.ak, tpm.create_ak())
        VmKeys(paths, tpm).make_host_key(ONE)
        AuditKey(paths, tpm, _trail(paths)).make(ONE)
    return paths


def _trail(paths: HostPaths) -> AuditTrail:
    return AuditTrail(paths.audit, lambda: 1, BOOT)


def _switch(tpm: Tpm) -> None:
    for pcr, event in switched(TWO):
        tpm.extend(pcr, event.encode())


def test_a_raised_epoch_shuts_the_old_blob_out_for_good(chip: SoftwareTpm, paths: HostPaths) -> None:
    """The update is confirmed, the epoch rises; then somebody puts the old files back and boots the old release."""
    old_blob = paths.sealed_key.read_bytes()
    with Tpm.open(chip.tcti) as tpm:
        keys = VmKeys(paths, tpm)
        host_key = keys.open_host_key(ONE)
        _switch(tpm)
        assert keys.open_host_key(TWO) == host_key
        assert keys.raise_epoch(TWO)
        assert keys.open_host_key(TWO) == host_key
        assert not keys.raise_epoch(TWO), "a second time does nothing"
        assert SealedKey.parse(paths.sealed_key.read_bytes()).epoch == 2
    chip.power_cycle()
    paths.sealed_key.write_bytes(old_blob)
    with Tpm.open(chip.tcti) as tpm:
        for pcr, event in booted(ONE):
            tpm.extend(pcr, event.encode())
        with pytest.raises(SealShut) as refusal:
            VmKeys(paths, tpm).open_host_key(ONE)
    assert refusal.value.term == "counter"


@pytest.mark.parametrize("cut", ["before the new blob is durable", "before the counter moves", "after it moved"])
def test_a_cut_while_the_epoch_rises_leaves_a_key_that_opens(
    chip: SoftwareTpm, paths: HostPaths, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """The power goes at each step; what is found opens, and the epoch rises at the next start."""

    class PowerCut(Exception):
        pass

    def cut_off(*_: object) -> None:
        raise PowerCut

    with Tpm.open(chip.tcti) as tpm:
        keys = VmKeys(paths, tpm)
        host_key = keys.open_host_key(ONE)
        _switch(tpm)
        with monkeypatch.context() as patch:
            if cut == "before the new blob is durable":
                patch.setattr(durable, "write_file", cut_off)
            elif cut == "before the counter moves":
                patch.setattr(guard, "shut_older", cut_off)
            if cut == "after it moved":
                keys.raise_epoch(TWO)
            else:
                with pytest.raises(PowerCut):
                    keys.raise_epoch(TWO)
    chip.power_cycle()
    with Tpm.open(chip.tcti) as tpm:
        for pcr, event in booted(TWO):
            tpm.extend(pcr, event.encode())
        keys = VmKeys(paths, tpm)
        assert keys.open_host_key(TWO) == host_key
        assert keys.raise_epoch(TWO) == (cut != "after it moved")
        assert keys.open_host_key(TWO) == host_key
        assert tpm.counter() == SealedKey.parse(paths.sealed_key.read_bytes()).counter


class TestAnotherPolicyKey:
    """The publisher replaces its TPM policy key: release 2 raises the epoch, and both keys sign its policies."""

    NEW = Signer("the publisher's second")
    BOTH = replace(
        TWO,
        policy_keys=(NEW.public(), *TWO.policy_keys),
        policies=(*platform(2, predecessors=(ONE,), signer=NEW, epochs=(0, 1, 2)).policies, *TWO.policies),
    )
    LAST = replace(
        BOTH, policy_keys=BOTH.policy_keys[:1], policies=tuple(signed_by(BOTH.policies, NEW.public(), "platform"))
    )

    def test_an_old_host_opens_its_key_and_is_sealed_for_the_new_one(self, chip: SoftwareTpm, paths: HostPaths) -> None:
        with Tpm.open(chip.tcti) as tpm:
            keys = VmKeys(paths, tpm)
            host_key = keys.open_host_key(ONE)
            _switch(tpm)
            with pytest.raises(SealShut):
                keys.open_host_key(self.LAST)
            assert keys.open_host_key(self.BOTH) == host_key
            assert keys.raise_epoch(self.BOTH)
            assert SealedKey.parse(paths.sealed_key.read_bytes()).key == self.NEW.public()
            # From now on the old key's signatures are not needed, nor do they open anything.
            assert keys.open_host_key(self.LAST) == host_key
            with pytest.raises(SealShut):
                keys.open_host_key(TWO)

    def test_the_audit_key_follows(self, chip: SoftwareTpm, paths: HostPaths) -> None:
        trail = _trail(paths)
        trail.append("vm-start", "done", "hello", "uid 0")
        with Tpm.open(chip.tcti) as tpm:
            audit = AuditKey(paths, tpm, trail)
            audit.follow(ONE)
            _switch(tpm)
            audit.sign(self.BOTH)
            first = paths.audit_key.read_bytes()
            assert verify_signed_head(paths) == trail.head
            audit.follow(self.BOTH)
            assert verify_signed_head(paths) is None, "a cut here leaves no head that its key did not sign"
            audit.sign(self.LAST)
            assert verify_signed_head(paths) == trail.head
            second = paths.audit_key.read_bytes()
            audit.follow(self.LAST)
            assert paths.audit_key.read_bytes() == second != first
            with pytest.raises(SealShut):
                audit.sign(TWO)


def test_an_audit_head_is_signed_only_in_an_approved_state(chip: SoftwareTpm, paths: HostPaths) -> None:
    trail = _trail(paths)
    trail.append("vm-start", "done", "hello", "uid 0")
    with Tpm.open(chip.tcti) as tpm:
        AuditKey(paths, tpm, trail).sign(ONE)
        assert verify_signed_head(paths) == trail.head
        tpm.extend(13, b"something that nobody signed")
        trail.append("vm-stop", "done", "hello", "uid 0")
        with pytest.raises(SealShut):
            AuditKey(paths, tpm, trail).sign(ONE)
    signed = verify_signed_head(paths)
    assert signed is not None
    assert signed.sequence == 1
    assert verify(paths.audit, signed).sequence == 2


def test_a_rewritten_trail_does_not_lead_through_the_signed_head(chip: SoftwareTpm, paths: HostPaths) -> None:
    trail = _trail(paths)
    trail.append("vm-start", "refused", "hello", "uid 0")
    with Tpm.open(chip.tcti) as tpm:
        AuditKey(paths, tpm, trail).sign(ONE)
    signed = signed_head_path(paths.audit).read_bytes()
    durable.remove_tree(paths.audit)
    forged = _trail(paths)
    forged.append("vm-start", "done", "hello", "uid 0")
    signed_head_path(paths.audit).write_bytes(signed)
    assert verify(paths.audit) == forged.head, "the chain alone does not tell"
    with pytest.raises(AuditBroken):
        verify(paths.audit, verify_signed_head(paths))


@pytest.mark.parametrize("part", ["head", "signature", "certification", "key", "policy"])
def test_a_signed_head_that_was_changed_is_refused(chip: SoftwareTpm, paths: HostPaths, part: str) -> None:
    trail = _trail(paths)
    trail.append("vm-start", "done", "hello", "uid 0")
    with Tpm.open(chip.tcti) as tpm:
        AuditKey(paths, tpm, trail).sign(ONE)
    signed = read_signed_head(paths.audit)
    key = PurposeKey.parse(paths.audit_key.read_bytes())
    assert signed is not None
    if part == "head":
        signed = replace(signed, head=AuditHead(sequence=2, hash=signed.head.hash))
    elif part == "signature":
        signed = replace(signed, signature=signed.signature[:-1] + bytes([signed.signature[-1] ^ 1]))
    elif part == "certification":
        key = replace(key, attest=key.attest[:-1] + bytes([key.attest[-1] ^ 1]))
    elif part == "key":
        key = replace(key, public=key.public[:-1] + bytes([key.public[-1] ^ 1]))
    else:
        key = replace(key, channel="another")
    signed_head_path(paths.audit).write_bytes(signed.encode())
    paths.audit_key.write_bytes(key.encode())
    with pytest.raises(AuditBroken):
        verify_signed_head(paths)
