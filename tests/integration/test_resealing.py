# SPDX-License-Identifier: Apache-2.0
"""The host's key is sealed anew on a real swtpm: for an epoch, a policy key, Secure Boot's changes, and the floor.

Each is cut at each instant; after each cut the key opens as before, and the next start completes it. See also
``docs/sealing-table.md``, which tells the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tpm2_pytss as tss

from agent.audit import records
from agent.audit_key import verify_signed_head
from agent.errors import StateCopiedBack
from content import durable
from documents.definition import GUARDIANS, Disk, VmDefinition
from documents.errors import VmgateError
from documents.host_state import Floor, Generation
from documents.release import Release
from documents.sealed import SealedFloor
from lab.boot_logs import MACHINE, Machine
from lab.fuse import cuts
from lab.measuring import Signer, platform, workload
from lab.sealed_host import SealedHost
from measure import templates
from measure.errors import KeyRefused, NotForThisTpm, Pcr7Unforeseen, SealEmpty, SealShut

LATER = replace(
    MACHINE, variables={**MACHINE.variables, "db": b"the keys of db and the CA of 2026"}, signature=b"owner" + b"2026"
)
"""The same machine once its firmware knows another certificate, and the kernel image is signed by that."""

OTHER = replace(MACHINE, variables={**MACHINE.variables, "dbx": b"nobody announced this"})
PLAIN = platform(1, epochs=(0, 1))
ONE = platform(1, epochs=(0, 1), image=MACHINE.image())
ANNOUNCING = MACHINE.image(announced=(LATER,))
TWO = platform(2, epochs=(0, 1), image=LATER.image())
SAME = platform(2, epochs=(0, 1), image=MACHINE.image())
SAYING = platform(2, epochs=(0, 1), image=ANNOUNCING)
RAISING = platform(3, epoch=2, epochs=(0, 1, 2), image=LATER.image())
NEW = Signer("the publisher's second")
ROTATED = replace(
    RAISING,
    policy_keys=(NEW.public(), *RAISING.policy_keys),
    policies=(
        *platform(3, epoch=2, epochs=(0, 1, 2), image=LATER.image(), signer=NEW).policies,
        *RAISING.policies,
    ),
)
IMAGES = {1: MACHINE.image(), 2: LATER.image(), 3: LATER.image()}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., SealedHost]]:
    """Hosts that booted into a release and made their keys; switched off at the end."""
    hosts: list[SealedHost] = []

    def host(release: Release = ONE, machine: Machine | None = MACHINE) -> SealedHost:
        found = SealedHost(tmp_path / str(len(hosts)), IMAGES)
        hosts.append(found)
        found.start(release, machine)
        found.init(release)
        return found

    yield host
    for host_ in hosts:
        host_.off()


def definition() -> VmDefinition:
    """A VM with a key."""
    return VmDefinition(
        name="desk",
        uuid="b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f",
        title="Desk",
        machine="pc-q35-7.2",
        vcpus=1,
        memory_mib=256,
        disks=(Disk(name="system", image="11" * 32, length=1, disk_class="readonly"),),
        guardians=GUARDIANS,
    )


def shut(host: SealedHost, release: Release) -> str:
    """The term that keeps the key shut."""
    with pytest.raises(SealShut) as found:
        host.keys.open_host_key(release)
    return found.value.term


def test_a_change_that_a_release_brings_opens_after_the_boot_and_shuts_the_old_state(
    make: Callable[..., SealedHost],
) -> None:
    host = make()
    key = host.keys.open_host_key(ONE)
    host.resealing.seal_ahead(TWO, ONE)
    assert host.keys.open_host_key(ONE) == key, "nothing is lost by it"
    before = host.paths.sealed_key.read_bytes()
    host.resealing.seal_ahead(TWO, ONE)
    assert host.paths.sealed_key.read_bytes() == before, "and it is done once"

    host.boot(TWO, LATER)
    assert host.keys.open_host_key(TWO) == key
    assert len(host.sealed().ahead) == 1, "not confirmed: both are kept"
    host.confirm(TWO)
    assert host.keys.open_host_key(TWO) == key
    assert (host.sealed().ahead, host.notes) == ((), ["epoch"])
    # Whoever puts the old variables and the old files back opens nothing.
    host.boot(ONE, MACHINE)
    assert shut(host, ONE) == "policy"
    host.paths.sealed_key.write_bytes(before)
    assert shut(host, ONE) == "counter"


def test_a_change_that_never_comes_costs_nothing(make: Callable[..., SealedHost]) -> None:
    host = make()
    key = host.keys.open_host_key(ONE)
    host.resealing.seal_ahead(TWO, ONE)
    for _ in range(2):
        host.boot(ONE, MACHINE)
        assert host.keys.open_host_key(ONE) == key
        host.confirm(ONE)
    # Announced no more by what is confirmed, it would open no more either.
    assert host.sealed().ahead == ()
    assert host.keys.open_host_key(ONE) == key
    host.boot(TWO, LATER)
    assert shut(host, TWO) == "policy"


def test_without_sealing_ahead_the_change_shuts_the_key(make: Callable[..., SealedHost]) -> None:
    """The control: what the sealing ahead is for."""
    host = make()
    host.boot(TWO, LATER)
    assert shut(host, TWO) == "policy"
    host.boot(ONE, MACHINE)
    assert host.keys.open_host_key(ONE)


def test_another_change_than_the_announced_one_opens_nothing(make: Callable[..., SealedHost]) -> None:
    host = make()
    host.resealing.seal_ahead(TWO, ONE)
    host.boot(ONE, OTHER)
    assert shut(host, ONE) == "policy"
    off = replace(MACHINE, secure_boot=b"\0")
    host.boot(ONE, off)
    assert shut(host, ONE) == "policy"
    host.boot(TWO, replace(LATER, secure_boot=b"\0"))
    assert shut(host, TWO) == "policy"


def test_a_change_can_be_announced_long_before_and_waits_beside_the_image(make: Callable[..., SealedHost]) -> None:
    """As firmware updates bring it: the same image, and some day another db."""
    host = make()
    host.images[2] = ANNOUNCING
    key = host.keys.open_host_key(ONE)
    host.boot(SAYING, MACHINE)
    counter = host.tpm.counter()
    host.confirm(SAYING)
    assert len(host.sealed().ahead) == 1
    assert host.tpm.counter() == counter, "an announcement alone wears no memory"
    moved = replace(LATER, sections=MACHINE.sections, application=MACHINE.application)
    host.boot(SAYING, moved)
    assert host.keys.open_host_key(SAYING) == key
    host.confirm(SAYING)
    assert host.tpm.counter() == counter + 1
    host.boot(SAYING, MACHINE)
    assert shut(host, SAYING) == "policy"


def test_an_epoch_that_rises_while_a_change_is_announced_takes_both_states_along(
    make: Callable[..., SealedHost],
) -> None:
    """One file holds both, so that the new epoch is there for both or for none."""
    raising = platform(3, epoch=2, epochs=(0, 1, 2), image=ANNOUNCING)
    host = make()
    host.images |= {2: ANNOUNCING, 3: ANNOUNCING}
    key = host.keys.open_host_key(ONE)
    host.boot(SAYING, MACHINE)
    host.confirm(SAYING)
    before = host.paths.sealed_key.read_bytes()
    host.boot(raising, MACHINE)
    host.confirm(raising)
    assert (host.sealed().epoch, len(host.sealed().ahead)) == (2, 1)
    moved = replace(LATER, sections=MACHINE.sections, application=MACHINE.application)
    for machine in (MACHINE, moved):
        host.boot(raising, machine)
        assert host.keys.open_host_key(raising) == key
    good = host.paths.sealed_key.read_bytes()
    for release, machine in ((raising, MACHINE), (raising, moved), (SAYING, MACHINE), (SAYING, moved)):
        host.boot(release, machine)
        host.paths.sealed_key.write_bytes(before)
        assert shut(host, release) == "counter"
    host.paths.sealed_key.write_bytes(good)
    host.boot(raising, moved)
    host.confirm(raising)
    assert host.keys.open_host_key(raising) == key


def test_a_rollback_across_a_change_of_secure_boot_is_sealed_ahead_as_well(make: Callable[..., SealedHost]) -> None:
    host = make()
    key = host.keys.open_host_key(ONE)
    host.resealing.seal_ahead(TWO, ONE)
    host.boot(TWO, LATER)
    host.confirm(TWO)
    host.resealing.seal_ahead(ONE, TWO)
    host.boot(ONE, MACHINE)
    assert host.keys.open_host_key(ONE) == key
    # And forward again.
    host.resealing.seal_ahead(TWO, ONE)
    host.boot(TWO, LATER)
    assert host.keys.open_host_key(TWO) == key


def test_what_cannot_be_foreseen_is_refused_before_anything_changes(make: Callable[..., SealedHost]) -> None:
    host = make()
    before = host.paths.sealed_key.read_bytes()
    host.images[2] = replace(LATER.image(), secure_boot=())
    with pytest.raises(Pcr7Unforeseen, match="does not say"):
        host.resealing.seal_ahead(TWO, ONE)
    host.images[2] = LATER.image()
    host.tpm.extend(7, b"not in the log")
    with pytest.raises(Pcr7Unforeseen, match="does not explain"):
        host.resealing.seal_ahead(TWO, ONE)
    # A way back is not refused for it.
    host.resealing.try_to_seal_ahead(TWO, ONE)
    assert host.paths.sealed_key.read_bytes() == before
    assert [record.event for record in records(host.paths.audit)] == []


def test_a_first_host_image_binds_an_old_key_to_secure_boot(make: Callable[..., SealedHost]) -> None:
    """Inside the epoch; what was sealed without PCR 7 opens no more."""
    host = make(PLAIN, None)
    key, old = host.keys.open_host_key(PLAIN), host.paths.sealed_key.read_bytes()
    host.boot(SAME, MACHINE)
    host.images[2] = MACHINE.image()
    assert host.keys.open_host_key(SAME) == key
    host.confirm(SAME)
    assert (host.sealed().local_pcrs, host.sealed().epoch) == ((7,), 1)
    assert host.keys.open_host_key(SAME) == key
    host.boot(SAME, OTHER)
    assert shut(host, SAME) == "policy"
    host.paths.sealed_key.write_bytes(old)
    assert shut(host, SAME) == "counter"


def test_nothing_is_sealed_to_empty_pcrs(tmp_path: Path) -> None:
    host = SealedHost(tmp_path, IMAGES)
    try:
        with pytest.raises(SealEmpty, match="PCR 13"):
            host.init(PLAIN)
        host.start(ONE)
        with pytest.raises(SealEmpty, match="PCR 7"):
            host.init(ONE)
        assert not host.paths.sealed_key.exists()
    finally:
        host.off()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A re-seal that is cut.

    Attributes:
        first: the release of before, in which the keys are made.
        then: the release under which it happens.
        machine: what boots into it; before, it is ``MACHINE``, or none where ``first`` has no image.
        root: of the floor then.
        ahead: what is cut is the sealing ahead, in the boot of before.
    """

    first: Release = ONE
    then: Release
    machine: Machine
    root: int = 1
    ahead: bool = False


CHANGES = {
    "epoch and policy key": Change(then=ROTATED, machine=LATER),
    "first host image": Change(first=PLAIN, then=SAME, machine=MACHINE),
    "sealing ahead": Change(then=TWO, machine=LATER, ahead=True),
    "Secure Boot has changed": Change(then=TWO, machine=LATER),
    "root of the repository": Change(then=ONE, machine=MACHINE, root=2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cut_anywhere_leaves_a_key_that_opens_and_the_next_start_completes(
    tmp_path: Path, name: str, make: Callable[..., SealedHost]
) -> None:
    change = CHANGES[name]
    keys: list[bytes] = []
    starting = change.machine if not change.ahead else MACHINE

    def ready() -> SealedHost:
        host = make(change.first, MACHINE if change.first is ONE else None)
        if change.first is PLAIN:
            host.images[2] = MACHINE.image()
        keys.append(host.keys.open_host_key(change.first))
        host.floor = Floor(time=0, root=change.root, releases=())
        if change.machine is LATER and not change.ahead:
            host.resealing.seal_ahead(change.then, change.first)
        if not change.ahead:
            host.boot(change.then, starting)
        return host

    def operate(host: SealedHost) -> None:
        if change.ahead:
            host.resealing.seal_ahead(change.then, change.first)
        else:
            host.confirm(change.then)

    seen = []
    for host, cut in cuts(ready, operate):
        seen.append(cut)
        key = keys[-1]
        now = change.first if change.ahead else change.then
        # The process alone ends, then the power does.
        assert host.keys.open_host_key(now) == key, cut
        host.boot(now, starting)
        assert host.keys.open_host_key(now) == key, cut
        operate(host)
        host.boot(change.then, change.machine)
        assert host.keys.open_host_key(change.then) == key, cut
        host.confirm(change.then)
        sealed = host.sealed()
        assert host.keys.open_host_key(change.then) == key, cut
        assert host.tpm.counter() == sealed.counter, cut
        assert not host.paths.counter_raised.exists(), cut
        assert (sealed.epoch, sealed.key) == (change.then.epoch, change.then.policy_keys[0])
    assert "host-key.json is written" in seen
    assert ("the counter moves" in seen) == (not change.ahead)
    assert ("the event is extended" in seen) == (not change.ahead)


def test_the_event_is_not_forgotten_when_the_agent_ends_before_it(make: Callable[..., SealedHost]) -> None:
    """Within the boot: a session that was satisfied before lives on until PCR 12 is extended."""
    for host, cut in cuts(lambda: make(PLAIN, None), lambda host: host.confirm(_raised())):
        counted = host.tpm.counter() == host.sealed().counter and cut != ""
        host.notes.clear()
        host.confirm(_raised())
        if cut in ("the event is extended", "counter-raised is removed"):
            assert counted
            assert host.notes == ["epoch"], cut


def _raised() -> Release:
    """Another epoch without another state."""
    return replace(PLAIN, epoch=2, policies=(*PLAIN.policies, *platform(1, epochs=(2,)).policies))


def test_what_was_copied_back_below_the_floor_is_found(make: Callable[..., SealedHost], tmp_path: Path) -> None:
    """Offline, by somebody who has the disk of a host for an hour, and kept a copy of a year ago."""
    host = make(PLAIN, None)
    old = shutil.copytree(host.paths.state, tmp_path / "a-year-ago")
    host.floor = Floor(time=5, root=3, releases=(("desktops", 7), ("platform", 1)))
    host.confirm(_raised())
    assert host.sealed().floor == SealedFloor(root=3, releases=host.floor.releases)
    assert host.resealing.lowest(_raised()) == Floor(time=0, root=3, releases=host.floor.releases)
    good = host.paths.sealed_key.read_bytes()

    # All of it: the key of then opens no more.
    host.paths.sealed_key.write_bytes((old / "tpm/host-key.json").read_bytes())
    assert shut(host, PLAIN) == "counter"
    # All but the key: what is sealed with it is above the file, and what is active is below.
    host.paths.sealed_key.write_bytes(good)
    host.floor = Floor(time=0, root=1, releases=())
    lowest = host.resealing.lowest(_raised())
    assert lowest is not None
    assert (lowest.root, dict(lowest.releases)) == (3, {"desktops": 7, "platform": 1})
    told = list(records(host.paths.audit))[-1]
    assert (told.event, told.outcome) == ("floor", "failed")
    for number in (6, 7):
        desktops = replace(workload(number, "desk"), channel="desktops")
        generation = Generation(number=1, releases=(desktops.encode(), PLAIN.encode()), stale=False)
        with pytest.raises(StateCopiedBack, match="desktops 6") if number == 6 else nullcontext():
            host.keys.require_not_below(generation)
    # And the floor beside the key cannot be written anew.
    host.paths.sealed_key.write_bytes(replace(host.sealed(), floor=SealedFloor(root=1)).encode())
    with pytest.raises(KeyRefused, match="floor beside it"):
        host.keys.open_host_key(_raised())


def _clear(host: SealedHost) -> None:
    host.tpm._esys.clear(tss.ESYS_TR.LOCKOUT)


def _lose_counter(host: SealedHost) -> None:
    with host.tpm._persistent(templates.COUNTER_INDEX) as index:
        host.tpm._esys.nv_undefine_space(index, auth_handle=tss.ESYS_TR.OWNER)


@pytest.mark.parametrize(
    ("lose", "error", "cause"),
    [
        (_clear, NotForThisTpm, "this TPM was cleared since"),
        (_lose_counter, SealShut, "counter is not there"),
    ],
    ids=["the TPM was cleared", "the counter is gone"],
)
def test_a_key_that_its_tpm_lost_opens_nothing_and_is_not_destroyed_and_the_way_out_works(
    make: Callable[..., SealedHost], lose: Callable[[SealedHost], None], error: type[VmgateError], cause: str
) -> None:
    host = make(PLAIN, None)
    key = host.keys.open_host_key(PLAIN)
    desk = definition()
    durable.make_directory(host.paths.vm(desk.name))
    secret = host.keys.open(desk, PLAIN, {})
    wrapped = host.paths.vm(desk.name) / "key-tpm.json"
    files = {path: path.read_bytes() for path in (host.paths.sealed_key, host.paths.audit_key, wrapped)}
    lose(host)
    for again in range(2):
        with pytest.raises(error, match=cause) as said:
            host.keys.open(desk, PLAIN, {})
        line = said.value.line()
        assert "\n" not in line
        assert "what the VMs' own TPMs held is lost" in line
        assert "move host-key.json and audit-key.json out of /var/lib/vmgate/tpm" in line
        # As each start of the agent does; nothing is due, so nothing is opened.
        host.confirm(PLAIN)
        assert {path: path.read_bytes() for path in files} == files
        if not again:
            host.boot(PLAIN)
            # From here on a counter is there again, above all that ever were.
            cause = "cleared" if error is NotForThisTpm else "past the value"

    for path in (host.paths.sealed_key, host.paths.audit_key):
        path.unlink()
    host.confirm(PLAIN)
    assert host.keys.open_host_key(PLAIN) != key
    host.trail.append("vm-start", "done", "hello", "uid 0")
    host.audit_key.sign(PLAIN)
    assert verify_signed_head(host.paths) == host.trail.head
    with pytest.raises(KeyRefused):
        host.keys.open(desk, PLAIN, {})
    wrapped.unlink()
    assert host.keys.open(desk, PLAIN, {}) != secret
    # Nobody brings the old key back with the old file.
    host.paths.sealed_key.write_bytes(files[host.paths.sealed_key])
    with pytest.raises(error):
        host.keys.open_host_key(PLAIN)
