# SPDX-License-Identifier: Apache-2.0
"""What a fleet's assignments are in a repository, and what changing them changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from documents.errors import DocumentError, VmgateError
from keys.signers import open_role
from lab.counting import stamps, touched
from lab.fleet import BITS, Fleet, assignment
from lab.publishing import DAY, NOW, PASSPHRASE, Publisher
from updater.assignment import assignment_target, list_assignment, listed_assignment
from updater.errors import AssignmentRefused, MetadataExpired, NoSuchChannel
from updater.repository.assignments import (
    all_assignments,
    assign,
    assignment_of,
    bin_names,
    listed_bins,
    load_bin,
    renew,
)
from updater.repository.assignments_role import create_assignments, replace_key
from updater.repository.chain import load_chain, sign, write
from updater.repository.errors import NoAssignments, NoSuchHost, RepositoryDamaged
from updater.repository.export import export_bundle
from updater.repository.refresh import refresh
from updater.repository.release import channel_role
from updater.repository.verify import verify_repository


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path)
    publisher.publish_platform(1)
    publisher.publish_workload(1)
    return publisher


@pytest.fixture
def fleet(publisher: Publisher) -> Fleet:
    return Fleet(publisher)


def test_targets_delegates_to_the_role_and_the_role_to_bins(publisher: Publisher, fleet: Fleet) -> None:
    targets = Metadata[Targets].from_file(str(publisher.repository / "metadata/2.targets.json")).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    role = targets.delegations.roles["assignments"]
    assert (role.threshold, role.terminating, role.paths) == (1, True, ["assignments/*"])
    assert targets.delegations.keys[role.keyids[0]].scheme == "ecdsa-sha2-nistp256"
    own = Metadata[Targets].from_file(str(publisher.repository / "metadata/1.assignments.json")).signed
    assert own.targets == {}
    assert own.delegations is not None
    bins = own.delegations.succinct_roles
    assert bins is not None
    assert (bins.number_of_bins, bins.keyids, bins.threshold) == (2**BITS, role.keyids, 1)
    verify_repository(publisher.repository, now=NOW)
    # It is no channel, and channels go on as before.
    assert list(load_chain(publisher.repository).releases) == ["releases-platform", "releases-desktop"]
    with pytest.raises(NoSuchChannel):
        channel_role(load_chain(publisher.repository), "assignments")
    publisher.publish_platform(2)


def test_there_is_one_assignments_role_and_it_needs_the_targets_keys(publisher: Publisher) -> None:
    place = (publisher.repository, publisher.keys, PASSPHRASE)
    moved = [path.rename(path.with_suffix(".away")) for path in publisher.keys.glob("targets-*.pem")]
    before = stamps(publisher.repository)
    with pytest.raises(VmgateError, match="targets"):
        create_assignments(*place, now=NOW)
    assert not touched(before, stamps(publisher.repository))
    for path in moved:
        path.rename(path.with_suffix(".pem"))
    with pytest.raises(NoAssignments, match="no assignments role"):
        assign(*place, [assignment("h", NOW + DAY)], now=NOW)
    create_assignments(*place, now=NOW)
    with pytest.raises(NoAssignments, match="already"):
        create_assignments(*place, now=NOW)
    for bits in (0, 16):
        with pytest.raises(ValueError, match="bits"):
            create_assignments(*place, now=NOW, bits=bits)


def test_a_host_is_assigned_shown_changed_and_removed(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign("one", "two", platform=(1, 3))
    found = assignment_of(publisher.repository, "one")
    assert found == assignment("one", NOW + 90 * DAY, platform=(1, 3))
    fleet.assign("one", locked=True, platform=(2, 2))
    assert assignment_of(publisher.repository, "one").locked
    assert not assignment_of(publisher.repository, "two").locked
    assert verify_repository(publisher.repository, now=NOW).assignments == 2
    fleet.unassign("one")
    for host in ("one", "never", "../x"):
        with pytest.raises(NoSuchHost):
            assignment_of(publisher.repository, host)
    before = stamps(publisher.repository)
    with pytest.raises(NoSuchHost):
        fleet.unassign("one")
    assert not touched(before, stamps(publisher.repository))
    assert [a.host for a in all_assignments(publisher.repository, load_chain(publisher.repository))] == ["two"]


def test_a_change_touches_one_bin_snapshot_and_timestamp(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign(*[f"host-{n}" for n in range(200)])
    before = stamps(publisher.repository)
    assert fleet.assign("host-7", platform=(1, 1)) == 1
    kinds = [name.partition(".")[2].partition("-")[0] for name in touched(before, stamps(publisher.repository))]
    assert kinds == ["assignments", "snapshot.json", "json"]


def test_the_last_one_of_a_host_counts(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign("h", "h")
    assign(
        publisher.repository,
        publisher.keys,
        PASSPHRASE,
        [assignment("h", NOW + 1), assignment("h", NOW + 2)],
        now=NOW,
    )
    assert assignment_of(publisher.repository, "h").expires == NOW + 2


def test_assigning_needs_online_keys_only(publisher: Publisher, fleet: Fleet) -> None:
    for path in publisher.keys.iterdir():
        if path.name.partition("-")[0] not in ("assignments", "snapshot", "timestamp"):
            path.unlink()
    fleet.assign("h")
    refresh(publisher.repository, publisher.keys, PASSPHRASE, now=NOW)
    assert verify_repository(publisher.repository, now=NOW).assignments == 1


def test_a_key_of_another_repository_assigns_nothing(publisher: Publisher, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Publisher(tmp_path / "other")
    Fleet(other)
    before = stamps(publisher.repository)
    with pytest.raises(VmgateError, match="assignments"):
        assign(publisher.repository, other.keys, PASSPHRASE, [assignment("h", NOW + 1)], now=NOW)
    assert not touched(before, stamps(publisher.repository))


def test_bins_are_renewed_before_they_expire(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign(*[f"host-{n}" for n in range(20)], days=3000)
    place = (publisher.repository, publisher.keys, PASSPHRASE)
    bins = len(listed_bins(load_chain(publisher.repository)))
    assert renew(*place, now=NOW + DAY) == 0
    assert renew(*place, now=NOW + 200 * DAY) == bins
    refresh(*place, now=NOW + 360 * DAY)
    verify_repository(publisher.repository, now=NOW + 360 * DAY)
    with pytest.raises(MetadataExpired, match="assignments-"):
        list(all_assignments(publisher.repository, load_chain(publisher.repository), NOW + 600 * DAY))


def test_a_stolen_key_is_replaced(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign(*[f"host-{n}" for n in range(20)])
    place = (publisher.repository, publisher.keys, PASSPHRASE)
    before = stamps(publisher.repository)
    with pytest.raises(NoAssignments, match="still in"):
        replace_key(*place, now=NOW)
    assert not touched(before, stamps(publisher.repository))
    file = publisher.keys / "assignments-1.pem"
    stolen = file.rename(file.with_suffix(".stolen"))
    bins = listed_bins(load_chain(publisher.repository))
    assert replace_key(*place, now=NOW) == len(bins)
    assert verify_repository(publisher.repository, now=NOW).assignments == 20
    fleet.assign("host-3", "new")
    chain = load_chain(publisher.repository)
    assert chain.targets.signed.delegations is not None
    assert chain.targets.signed.delegations.roles is not None
    assert chain.targets.signed.delegations.roles["assignments"].keyids == bin_names(chain).keyids
    assert len(chain.targets.signed.delegations.keys) == 3
    file.unlink()
    stolen.rename(file)
    with pytest.raises(VmgateError, match="assignments"):
        fleet.assign("host-3")


def test_every_damaged_bin_is_found(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign("h")
    (name,) = listed_bins(load_chain(publisher.repository))
    path = publisher.repository / f"metadata/1.{name}.json"
    data = path.read_bytes()
    for wrong in (data[:-1], data.replace(b"h.json", b"i.json"), data.replace(b"false", b"true"), b"{}", b""):
        path.write_bytes(wrong)
        for look in (lambda: verify_repository(publisher.repository, now=NOW), lambda: fleet.assign("h")):
            with pytest.raises(RepositoryDamaged):
                look()
    path.unlink()
    with pytest.raises(RepositoryDamaged):
        verify_repository(publisher.repository, now=NOW)


def test_a_bin_that_lists_somebody_elses_host_is_found(publisher: Publisher, fleet: Fleet) -> None:
    fleet.assign("h")
    chain = load_chain(publisher.repository)
    (name,) = listed_bins(chain)
    held = load_bin(publisher.repository, chain, name)
    others = (list_assignment(assignment(f"o{n}", NOW + DAY)) for n in range(50))
    held.signed.targets |= {target.path: target for target in others}
    write(
        publisher.repository,
        f"metadata/1.{name}.json",
        sign(held.metadata, open_role("assignments", publisher.keys, PASSPHRASE)),
    )
    with pytest.raises(RepositoryDamaged, match="not its own"):
        verify_repository(publisher.repository, now=NOW)


def test_a_bin_that_hosts_would_not_read_is_not_published(
    publisher: Publisher, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from updater.repository import assignments

    monkeypatch.setattr(assignments, "LIMITS", assignments.LIMITS.__class__(targets=1_000))
    before = stamps(publisher.repository)
    with pytest.raises(AssignmentRefused, match="more bins"):
        fleet.assign(*[f"host-{n}" for n in range(100)])
    # What was signed before is no part of the repository: hosts see what the timestamp leads to.
    assert all("assignments-" in name for name in touched(before, stamps(publisher.repository)))
    assert verify_repository(publisher.repository, now=NOW).assignments == 0


def test_what_no_host_would_read_is_not_signed(publisher: Publisher, fleet: Fleet) -> None:
    before = stamps(publisher.repository)
    good = assignment("h", NOW + DAY)
    for bad in (replace(good, channels=good.channels[::-1]), replace(good, host="../h"), replace(good, expires=-1)):
        with pytest.raises(DocumentError):
            assign(publisher.repository, publisher.keys, PASSPHRASE, [good, bad], now=NOW)
    assert not touched(before, stamps(publisher.repository))


def test_a_listing_is_the_document_or_refused() -> None:
    whole = assignment("h", NOW, locked=True, desktop=(2, 5))
    target = list_assignment(whole)
    assert target.path == assignment_target("h") == "assignments/h.json"
    assert (target.length, listed_assignment(target)) == (len(whole.encode()), whole)
    for custom in (None, 7, [], {}, {**(target.custom or {}), "locked": False}, {"locked": 1.5}):
        other = list_assignment(whole)
        other.unrecognized_fields["custom"] = custom
        with pytest.raises(AssignmentRefused):
            listed_assignment(other)
    for name in ("", "A", "a/b", "../a", "a" * 64, "a."):
        with pytest.raises(ValueError, match="name"):
            assignment_target(name)


def test_a_bundle_takes_along_what_its_hosts_are_assigned(publisher: Publisher, fleet: Fleet, tmp_path: Path) -> None:
    publisher.publish_platform(2)
    publisher.publish_platform(3)
    fleet.assign("old", platform=(1, 2), desktop=(1, 9))
    index = export_bundle(publisher.repository, ("platform", "desktop"), tmp_path / "b", hosts=("old",))
    names = [entry.name for entry in index.entries]
    assert [name for name in names if "assignments" in name] == [
        f"metadata/1.{listed_bins(load_chain(publisher.repository))[0]}.json",
        "metadata/1.assignments.json",
    ]
    platforms = [
        name.rpartition("/")[2].split(".")[1] for name in names if name.startswith("targets/releases/platform")
    ]
    assert sorted(platforms) == ["2", "3", "current"]
    with pytest.raises(NoSuchHost):
        export_bundle(publisher.repository, ("platform",), tmp_path / "b", hosts=("other",))
