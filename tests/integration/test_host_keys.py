# SPDX-License-Identifier: Apache-2.0
"""The host's key and its audit key on a real swtpm, as the agent keeps them: security epochs and signed heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit import AuditTrail, read_signed_head, signed_head_path, verify
from agent.audit import records as read_trail
from agent.audit_key import AuditKey, verify_signed_head
from agent.paths import HostPaths
from content import durable
from documents.audit import AuditBroken, AuditHead
from documents.host_state import PurposeKey
from documents.release import SignedPolicy
from lab.fuse import cuts
from lab.measuring import Signer, platform
from lab.sealed_host import BOOT, SealedHost
from lab.tpm import SoftwareTpm
from measure.errors import SealShut
from measure.policy import signed_by
from measure.tpm import Tpm

ONE = platform(1, epochs=(0, 1))
TWO = platform(2, predecessors=(ONE,), epoch=2, epochs=(0, 1, 2))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SealedHost]:
    """A host that booted into release 1 and made its keys."""
    found = SealedHost(tmp_path)
    found.start(ONE)
    found.init(ONE)
    yield found
    found.off()


@pytest.fixture
def chip(host: SealedHost) -> SoftwareTpm:
    host.tpm.close()
    return host.chip


@pytest.fixture
def paths(host: SealedHost) -> HostPaths:
    return host.paths


def _trail(paths: HostPaths) -> AuditTrail:
    return AuditTrail(paths.audit, lambda: 1, BOOT)


def test_a_raised_epoch_shuts_the_old_blob_out_for_good(host: SealedHost) -> None:
    """The update is confirmed, the epoch rises; then somebody puts the old files back and boots the old release."""
    old_blob, host_key = host.paths.sealed_key.read_bytes(), host.keys.open_host_key(ONE)
    host.switch(TWO)
    assert host.keys.open_host_key(TWO) == host_key
    host.confirm(TWO)
    assert host.keys.open_host_key(TWO) == host_key
    assert (host.sealed().epoch, host.notes) == (2, ["epoch"])
    after = host.paths.sealed_key.read_bytes(), host.tpm.counter()
    host.confirm(TWO)
    assert (host.paths.sealed_key.read_bytes(), host.tpm.counter()) == after, "a second time does nothing"
    assert host.notes == ["epoch"]
    told = [(record.event, record.outcome) for record in read_trail(host.paths.audit)]
    assert told == [("host-key", "started"), ("host-key", "done")]

    host.boot(ONE)
    host.paths.sealed_key.write_bytes(old_blob)
    with pytest.raises(SealShut) as refusal:
        host.keys.open_host_key(ONE)
    assert refusal.value.term == "counter"


def test_a_cut_while_the_epoch_rises_leaves_a_key_that_opens(tmp_path: Path) -> None:
    """The power goes at each instant; what is found opens, and the epoch rises at the next start."""
    hosts: list[SealedHost] = []

    def switched() -> SealedHost:
        hosts.append(host := SealedHost(tmp_path / str(len(hosts))))
        host.start(ONE)
        host.init(ONE)
        host.switch(TWO)
        return host

    for host, _ in cuts(switched, lambda host: host.confirm(TWO)):
        host_key = host.keys.open_host_key(TWO)
        host.boot(TWO)
        assert host.keys.open_host_key(TWO) == host_key
        host.confirm(TWO)
        assert host.keys.open_host_key(TWO) == host_key
        assert (host.sealed().epoch, host.tpm.counter()) == (2, host.sealed().counter)
    assert len(hosts) > 5


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

    def test_an_old_host_opens_its_key_and_is_sealed_for_the_new_one(self, host: SealedHost) -> None:
        host_key = host.keys.open_host_key(ONE)
        host.switch(TWO)
        with pytest.raises(SealShut):
            host.keys.open_host_key(self.LAST)
        assert host.keys.open_host_key(self.BOTH) == host_key
        host.confirm(self.BOTH)
        assert host.sealed().key == self.NEW.public()
        # From now on the old key's signatures are not needed, nor do they open anything.
        assert host.keys.open_host_key(self.LAST) == host_key
        with pytest.raises(SealShut):
            host.keys.open_host_key(TWO)

    def test_a_stolen_old_key_opens_nothing_any_more(self, host: SealedHost) -> None:
        """Whoever has it signs what he likes, has the old blob and the old audit key, and runs what he likes."""
        old_blob, old_audit = host.paths.sealed_key.read_bytes(), host.paths.audit_key.read_bytes()
        host.switch(TWO)
        host.confirm(self.BOTH)
        new_blob = host.paths.sealed_key.read_bytes()
        host.boot()
        host.tpm.extend(13, b"what the thief runs")
        state = ((13, host.tpm.read_pcrs("sha256", [13])[13].hex()),)
        thief = Signer()
        forged = tuple(
            SignedPolicy(
                entry="fresh", predecessor=0, epoch=e, pcrs=state, signature=thief.sign(dict(state), "platform", e)
            )
            for e in (0, 1, 2, 3)
        )
        release = replace(TWO, policies=forged)
        terms = []
        for blob in (old_blob, new_blob):
            host.paths.sealed_key.write_bytes(blob)
            with pytest.raises(SealShut) as shut:
                host.keys.open_host_key(release)
            terms.append(shut.value.term)
        assert terms == ["counter", "signature"]
        with pytest.raises(SealShut):
            host.audit_key.sign(release)
        # The old audit key has no counter in its policy, since it cannot be sealed anew. What it signs shows.
        host.trail.append("vm-start", "done", "hello", "uid 0")
        current = host.paths.audit_key.read_bytes()
        host.paths.audit_key.write_bytes(old_audit)
        host.audit_key.sign(release)
        host.paths.audit_key.write_bytes(current)
        with pytest.raises(AuditBroken):
            verify_signed_head(host.paths)

    def test_the_audit_key_follows(self, host: SealedHost) -> None:
        paths, trail = host.paths, host.trail
        trail.append("vm-start", "done", "hello", "uid 0")
        audit = host.audit_key
        audit.follow(ONE)
        host.switch(TWO)
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
