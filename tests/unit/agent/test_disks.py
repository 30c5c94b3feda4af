# SPDX-License-Identifier: Apache-2.0
"""The disks of a VM between starts: records that open and close, and what each start finds of them.

Here without libvirt, QEMU and the gate, which ``tests/integration/test_vm_disks.py`` has.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.disk_files import require_own_folder, verify_own_chain
from agent.disk_records import derive, passphrase, record_key
from agent.vm_errors import DiskNotAlone, RecordRefused
from documents.definition import Disk
from documents.errors import VmgateError
from hypervisor.qcow2 import parse_header
from lab.disk_vms import DEMO, OTHER_SECRET, SECRET, DiskHost

FRESH = {"setup": "pass", "data": "pass"}


@pytest.fixture
def host(tmp_path: Path) -> DiskHost:
    return DiskHost(tmp_path)


def run(host: DiskHost) -> None:
    host.start()
    host.stop()


def guest_writes(path: Path) -> None:
    """At the end, where QEMU puts new clusters."""
    path.write_bytes(path.read_bytes() + b"written by the guest".ljust(65536, b"\0"))


def cut_off(disk: Path) -> None:
    """As a QEMU leaves it that does not close it."""
    data = bytearray(disk.read_bytes())
    data[79] |= 1  # the last byte of the incompatible features: dirty
    disk.write_bytes(data)


def test_a_record_is_opened_before_a_run_and_closed_after_it(host: DiskHost) -> None:
    assert host.look() == FRESH
    host.start()
    assert [(host.record(disk).state, host.record(disk).number) for disk in FRESH] == [("open", 1), ("open", 1)]
    first = parse_header(host.path("data").read_bytes()[:65536]).generation
    guest_writes(host.path("setup"))
    guest_writes(host.path("data"))
    host.stop()
    assert [(host.record(disk).state, host.record(disk).number) for disk in FRESH] == [("closed", 2), ("closed", 2)]
    assert parse_header(host.path("data").read_bytes()[:65536]).generation == host.record("data").mark != first
    assert host.look() == FRESH
    assert host.path("data").read_bytes().endswith(b"written by the guest".ljust(65536, b"\0"))


def test_what_is_ephemeral_is_new_at_each_start_and_gone_after_the_stop(host: DiskHost) -> None:
    host.start()
    new = host.path("system").read_bytes()
    guest_writes(host.path("system"))
    host.stop()
    assert not host.path("system").exists()
    # As a crash leaves it, or somebody who wants the guest to read it.
    host.path("system").write_bytes(new + b"not written by this run")
    host.start()
    assert host.path("system").read_bytes() == new


def test_a_link_where_the_ephemeral_disk_goes_is_replaced_and_not_followed(host: DiskHost, tmp_path: Path) -> None:
    run(host)
    victim = tmp_path / "victim"
    victim.write_bytes(b"another's")
    host.path("system").symlink_to(victim)
    host.start()
    assert victim.read_bytes() == b"another's"
    assert not host.path("system").is_symlink()


def test_all_is_for_roots_eyes_only(host: DiskHost) -> None:
    host.start()
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o711
    assert {stat.S_IMODE(path.stat().st_mode) for path in host.folder.iterdir()} == {0o600}


def test_a_stop_that_nobody_saw_leaves_the_record_open(host: DiskHost) -> None:
    host.start()
    again = DiskHost(host.root)
    again.stop()
    assert again.look() == {"setup": "fail", "data": "warn"}


def test_a_refused_start_after_a_crash_closes_nothing(host: DiskHost) -> None:
    """libvirt tells of a stop after the refused start as well."""
    host.start()
    assert host.look() == {"setup": "fail", "data": "warn"}
    host.stop()
    assert host.look() == {"setup": "fail", "data": "warn"}
    assert host.record("setup").state == "open"


def test_an_adopted_vm_is_closed_when_it_stops(host: DiskHost) -> None:
    host.start()
    again = DiskHost(host.root)
    again.disks.adopt(again.vm, SECRET)
    again.stop()
    assert again.look() == FRESH


def test_a_disk_that_qemu_was_cut_off_from_stays_open(host: DiskHost) -> None:
    host.start()
    cut_off(host.path("setup"))
    host.stop()
    assert host.look() == {"setup": "fail", "data": "pass"}
    told = [record for record in host.audit_records() if record.outcome == "failed"]
    assert [dict(record.details)["disk"] for record in told] == ["setup.sealed"]


def test_a_sealed_disk_that_was_cut_off_starts_once_it_is_accepted(host: DiskHost) -> None:
    host.start()
    cut_off(host.path("setup"))
    host.stop()
    assert host.look() == {"setup": "fail", "data": "pass"}
    assert [disk for disk, _ in host.accept()] == ["setup"]
    assert host.look() == FRESH
    host.path("setup").write_bytes(host.path("setup").read_bytes() + bytes(65536))
    assert host.look() == {"setup": "fail", "data": "pass"}, "and only as it was then"


def test_a_data_disk_that_was_cut_off_and_accepted_is_told_at_the_next_start(host: DiskHost) -> None:
    host.start()
    cut_off(host.path("data"))
    host.stop()
    host.path("data").with_suffix(".json").unlink()
    assert host.look()["data"] == "fail"
    assert "data" in [disk for disk, _ in host.accept()]
    assert host.look() == {"setup": "pass", "data": "warn"}


def test_an_accepted_disk_starts_and_is_recorded_with_what_was_wrong(host: DiskHost) -> None:
    run(host)
    guest_writes(host.path("setup"))
    assert host.look() == {"setup": "fail", "data": "pass"}
    ((disk, why),) = host.accept()
    assert disk == "setup"
    assert "not the one of the last stop" in why
    assert host.look() == FRESH
    assert host.record("setup").number == 3
    assert host.accept() == []
    run(host)
    accepted = [record for record in host.audit_records() if record.event == "disk-accept"]
    assert [record.outcome for record in accepted] == ["started", "done"]
    assert dict(accepted[1].details)["why"] == why


def test_a_disk_that_is_gone_is_made_anew_once_that_is_accepted(host: DiskHost) -> None:
    run(host)
    host.path("data").unlink()
    assert host.look() == {"setup": "pass", "data": "fail"}
    assert [disk for disk, _ in host.accept()] == ["data"]
    run(host)
    assert host.look() == FRESH


def test_an_accepted_state_is_not_taken_back_by_the_one_before(host: DiskHost) -> None:
    run(host)
    before = {path.name: path.read_bytes() for path in host.folder.iterdir()}
    guest_writes(host.path("setup"))
    host.accept()
    for name, data in before.items():
        (host.folder / name).write_bytes(data)
    assert host.look() == {"setup": "fail", "data": "pass"}


def test_the_trail_is_what_tells_an_older_state(host: DiskHost) -> None:
    run(host)
    before = {path.name: path.read_bytes() for path in host.folder.iterdir()}
    run(host)
    for name, data in before.items():
        (host.folder / name).write_bytes(data)
    again = DiskHost(host.root)
    assert again.look() == {"setup": "fail", "data": "fail"}


def test_a_record_of_another_key_is_none(host: DiskHost) -> None:
    run(host)
    other = DiskHost(host.root, secret=OTHER_SECRET)
    assert other.look() == {"setup": "fail", "data": "fail"}


@pytest.mark.parametrize("disk", ["setup", "data"])
def test_a_record_of_another_disk_is_refused(host: DiskHost, disk: str) -> None:
    run(host)
    other = "data" if disk == "setup" else "setup"
    shutil.copy(host.path(other).with_suffix(".json"), host.path(disk).with_suffix(".json"))
    assert host.look()[disk] == "fail"


def test_an_overlay_over_an_image_that_the_release_replaced_is_refused(host: DiskHost) -> None:
    run(host)
    disks = tuple(replace(disk, image="cd" * 32) if disk.image else disk for disk in DEMO.disks)
    updated = DiskHost(host.root, replace(DEMO, disks=disks))
    assert updated.look() == {"setup": "fail", "data": "pass"}


def test_a_data_disk_of_another_size_is_refused(host: DiskHost) -> None:
    run(host)
    disks = (*DEMO.disks[:2], Disk(name="data", image="", length=2**21, disk_class="persistent"))
    larger = DiskHost(host.root, replace(DEMO, disks=disks))
    assert larger.look() == {"setup": "pass", "data": "fail"}


CHANGES: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: (path.rename(path.with_name("moved")), path.symlink_to("moved")),
    "a second name": lambda path: path.with_name("second").hardlink_to(path),
    "readable by others": lambda path: path.chmod(0o644),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:65536]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("disk", ["setup", "data"])
def test_a_file_that_is_not_the_vms_alone_or_not_plain_is_refused(host: DiskHost, disk: str, change: str) -> None:
    run(host)
    found = next(d for d in DEMO.disks if d.name == disk)
    assert verify_own_chain(host.vm, found) == "the declared chain"
    CHANGES[change](host.path(disk))
    with pytest.raises(VmgateError):
        verify_own_chain(host.vm, found)
    assert host.look()[disk] == "fail"
    with pytest.raises(VmgateError):
        host.accept()


def test_a_folder_that_others_can_change_is_refused(host: DiskHost, tmp_path: Path) -> None:
    assert require_own_folder(tmp_path / "none" / "disks") is False
    run(host)
    assert require_own_folder(host.folder)
    for place in (host.folder, host.folder.parent):
        place.chmod(0o777)
        with pytest.raises(DiskNotAlone):
            require_own_folder(host.folder)
        with pytest.raises(DiskNotAlone):
            verify_own_chain(host.vm, DEMO.disks[0])
        place.chmod(0o711)
    host.folder.rename(tmp_path / "elsewhere")
    host.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskNotAlone):
        require_own_folder(host.folder)
    host.stop()
    assert (tmp_path / "elsewhere").is_dir()


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {derive(SECRET, "a"), derive(SECRET, "b"), record_key(SECRET), bytes.fromhex(SECRET)}
    assert len(keys) == 4
    assert passphrase(SECRET, "data") != passphrase(SECRET, "more")
    assert passphrase(SECRET, "data") != passphrase(OTHER_SECRET, "data")
    assert len(passphrase(SECRET, "data")) == 64


def test_a_data_disk_that_no_host_made_is_not_accepted(host: DiskHost) -> None:
    run(host)
    whole = host.path("data").read_bytes()
    mark = whole.index(b"VMG1")
    host.path("data").write_bytes(whole[:mark] + bytes(24) + whole[mark + 24 :])
    with pytest.raises(RecordRefused, match="no mark"):
        host.accept()
