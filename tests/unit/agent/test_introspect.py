# SPDX-License-Identifier: Apache-2.0
"""No guest is read without its definition's word, and none without a record before."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.audit import AuditTrail, records
from agent.errors import BadRequest, NotReady
from agent.introspect import Introspection
from agent.vms import Versions
from content.errors import ContentError, StorageFull
from documents.definition import Disk, VmDefinition
from documents.errors import VmgateError
from documents.unattended import RunningVm
from hypervisor.errors import CoreMalformed, IntrospectionForbidden
from lab import guest_memory as made

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
DEFINITION = VmDefinition(
    name="work",
    uuid="22222222-2222-4222-8222-000000000001",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=64,
    disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
    guardians=("tpm",),
    introspection="",
)
RUNNING = RunningVm(
    name="work", channel="work", number=1, definition="ab" * 32, images=(), platform=1, reference="cd" * 32
)
DETAILS = {"vm": DEFINITION.uuid, "view": "tasks"}


class Machine:
    """A hypervisor with one VM, whose memory it writes as it is told; it remembers that it was asked."""

    def __init__(self, core: bytes, state: str = "running") -> None:
        self.core, self.there, self.run, self.asked = core, state, 1, 0

    def state(self, name: str) -> str:
        return self.there

    def run_number(self, name: str) -> int:
        return self.run

    def dump_memory(self, name: str, path: Path) -> None:
        self.asked += 1
        path.write_bytes(self.core)


def host(folder: Path, machine: Machine, *, running: RunningVm | None = RUNNING, **changes: Any) -> Introspection:
    definition = replace(DEFINITION, **changes)
    versions = Versions(name="work", state=machine.there, running=running, installed=RUNNING)
    vms = SimpleNamespace(find=lambda _: SimpleNamespace(definition=definition), versions_of=lambda _: versions)
    trail = AuditTrail(folder, lambda: 1_800_000_000, BOOT)
    return Introspection(cast("Any", SimpleNamespace(audit=trail, hypervisor=machine)), cast("Any", vms))


def told(folder: Path) -> list[tuple[str, str, str, dict[str, str]]]:
    return [(r.event, r.outcome, r.subject, dict(r.details)) for r in records(folder)]


def test_a_vm_that_allows_it_is_read_between_two_records(tmp_path: Path) -> None:
    machine = Machine(made.guest(("init", "sh")).core())
    found: Any = host(tmp_path, machine).look("work", "tasks", "anna (uid 0)")
    assert [task["name"] for task in found["tasks"]] == ["swapper/0", "init", "sh"]
    assert told(tmp_path) == [
        ("vm-introspect", "started", "work", DETAILS),
        ("vm-introspect", "done", "work", {**DETAILS, "found": "3 entries, whole"}),
    ]
    assert {record.actor for record in records(tmp_path)} == {"anna (uid 0)"}


@pytest.mark.parametrize(
    ("running", "introspection", "error"),
    [
        (RUNNING, None, IntrospectionForbidden),
        (replace(RUNNING, definition="ef" * 32), "", IntrospectionForbidden),
        (None, "", IntrospectionForbidden),
    ],
    ids=["not allowed", "started from another definition", "started nobody knows how"],
)
def test_another_vm_is_never_read(
    tmp_path: Path, running: RunningVm | None, introspection: str | None, error: type[VmgateError]
) -> None:
    machine = Machine(made.guest().core())
    with pytest.raises(error):
        host(tmp_path, machine, running=running, introspection=introspection).look("work", "tasks", "uid 0")
    assert machine.asked == 0
    assert told(tmp_path) == [("vm-introspect", "refused", "work", {**DETAILS, "why": error.code})]


def test_a_vm_that_is_started_anew_meanwhile_is_not_read(tmp_path: Path) -> None:
    class Restarted(Machine):
        def dump_memory(self, name: str, path: Path) -> None:
            super().dump_memory(name, path)
            self.run += 1

    with pytest.raises(NotReady, match="started anew meanwhile"):
        host(tmp_path, Restarted(made.guest().core())).look("work", "tasks", "uid 0")
    assert [outcome for _, outcome, _, _ in told(tmp_path)] == ["started", "failed"]


def test_a_vm_that_is_off_is_not_read(tmp_path: Path) -> None:
    machine = Machine(b"", "off")
    with pytest.raises(NotReady, match="does not run"):
        host(tmp_path, machine).look("work", "tasks", "uid 0")
    assert machine.asked == 0


def test_without_a_record_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(made.guest().core())
    introspection = host(tmp_path, machine)

    def full(path: Path, data: bytes) -> None:
        raise StorageFull("nothing was written", needed=len(data), cause="the disk is full")

    monkeypatch.setattr("content.durable.append", full)
    with pytest.raises(ContentError):
        introspection.look("work", "tasks", "uid 0")
    assert machine.asked == 0


def test_a_guest_that_cannot_be_read_is_recorded_too(tmp_path: Path) -> None:
    with pytest.raises(CoreMalformed):
        host(tmp_path, Machine(b"garbage")).look("work", "tasks", "uid 0")
    assert told(tmp_path)[1] == ("vm-introspect", "failed", "work", {**DETAILS, "why": "HY041"})


def test_the_signed_types_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(VmgateError, match="definition wants 0000"):
        host(tmp_path, Machine(made.guest().core()), introspection="0" * 64).look("work", "tasks", "uid 0")


def test_a_run_has_one_baseline(tmp_path: Path) -> None:
    guest = made.guest()
    machine = Machine(guest.core())
    introspection = host(tmp_path, machine)
    assert introspection.look("work", "integrity", "uid 0")["baseline"] == "taken"
    guest.put(made.TEXT, b"\xcc")
    machine.core = guest.core()
    found: Any = introspection.look("work", "integrity", "uid 0")
    assert (found["baseline"], found["text"]["changed"]) == ("compared", [f"{made.BASE:x}"])
    assert dict(list(records(tmp_path))[-1].details)["found"] == (
        "baseline compared; text 1 changed; rodata 0 changed; syscalls 0 outside; interrupts 0 outside"
    )
    machine.run = 2
    assert introspection.look("work", "integrity", "uid 0")["baseline"] == "taken"


def test_one_is_read_at_a_time(tmp_path: Path) -> None:
    core, inside, go_on = made.guest().core(), threading.Event(), threading.Event()

    class Slow(Machine):
        def dump_memory(self, name: str, path: Path) -> None:
            inside.set()
            assert go_on.wait(60)
            super().dump_memory(name, path)

    introspection = host(tmp_path, Slow(core))
    first = threading.Thread(target=introspection.look, args=("work", "tasks", "uid 0"))
    first.start()
    assert inside.wait(60)
    with pytest.raises(NotReady, match="another VM is being read"):
        introspection.look("work", "tasks", "uid 0")
    go_on.set()
    first.join()
    assert [outcome for _, outcome, _, _ in told(tmp_path)] == ["started", "done"]


def test_an_unknown_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        host(tmp_path, Machine(b"")).look("work", "everything", "uid 0")
