# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of VMs that are off, and the way back to one: disks and TPM together, whole and as they were, or not.

There is no memory in one: a VM goes on from its disk, with a new generation id, so that no two runs from one checkpoint
draw the same random numbers. Going back is recorded, gives each disk a new number and so shuts out what was before. A
restore that was cut off leaves a mark by which the VM does not start until it is repeated. Whether the VM may start is
the gate's matter, and by the definition that counts now: a checkpoint brings no older one back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.audit import records
from agent.disk_files import FOLDER_MODE
from agent.disk_records import derive, read_record, record_key, record_path, write_record
from agent.errors import NotFound, NotReady
from agent.generation_ids import GenerationIds
from agent.plan import VmPlan, own_disk
from agent.set_errors import CheckpointRefused, SetDisturbed, SetUnfit
from agent.vm_errors import VmRuns
from agent.vm_export import SetHost
from agent.vm_parts import kept, parts_of
from agent.vtpm import RESTORING, STATE_FILE, GuestTpms
from content import durable
from content.errors import Missing, storage
from content.fsverity import digest_file
from documents.canonical import Json
from documents.checkpoint import Checkpoint
from documents.definition import Disk
from documents.errors import VmgateError
from documents.host_state import VmTpm
from documents.state_record import MARK_SIZE, StateRecord
from documents.vm_set import DISK, RECORD, VTPM, VmPart

FOLDER = "checkpoints"
DOCUMENT = "checkpoint.json"
MOST = 16
EVENT = "vm-checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Whole:
    """A VM that is off, and its key."""

    vm: VmPlan
    secret: str
    endorsement: str
    asked: int

    @property
    def key(self) -> bytes:
        """The key that signs the VM's checkpoints."""
        return derive(self.secret, "vmgate checkpoints")


class Checkpoints:
    """Of one host.

    Args:
        host: see ``SetHost``.
    """

    def __init__(self, host: SetHost) -> None:
        self._host = host
        self._tpms = GuestTpms(host.states)
        self._generations = GenerationIds(host.outside.paths)

    def list(self, name: str) -> dict[str, Json]:
        """The checkpoints of a VM, oldest first; those that count for nothing are told by restoring them."""
        found: list[Json] = []
        for number in self._numbers(self._host.vms.find(name)):
            one = self._read(self._host.vms.find(name), number)
            found.append({"number": one.number, "time": one.time, "definition": one.definition})
        return {"name": name, "checkpoints": found}

    def create(self, name: str, actor: str) -> dict[str, Json]:
        """Make a checkpoint of a VM that is off.

        Raises:
            VmRuns, SetUnfit: it is not off, was not left by a clean stop, or has ``MOST`` checkpoints.
            SetDisturbed: somebody started it meanwhile; there is no checkpoint.
        """
        whole = self._take(name)
        vm = whole.vm
        if len(self._numbers(vm)) >= MOST:
            raise SetUnfit(
                f"no checkpoint of {name} was made",
                cause=f"it has {MOST}",
                remedy=f"`vmgate vm checkpoint {name} --remove NUMBER`",
            )
        with self._host.turn:
            parts = parts_of(vm, whole.secret, self._host.launcher.disks.ledger, self._host.states)
        number = max(self._known(vm), default=0) + 1
        with self._recorded(EVENT, name, actor, uuid=vm.definition.uuid, number=str(number)) as about:
            with self._aside(vm) as folder:
                made = Checkpoint(
                    vm=vm.definition.uuid,
                    number=number,
                    time=max(0, self._host.outside.clock()),
                    definition=vm.artifact.fsverity,
                    endorsement=whole.endorsement,
                    parts=tuple(_copied(folder, part, path) for part, path in parts.items()),
                )
                made = replace(made, mac=hmac.digest(whole.key, made.message(), "sha256"))
                durable.write_file(folder / DOCUMENT, made.encode())
                self._require_undisturbed(whole, {parts[part.name]: part.fsverity for part in made.parts})
                durable.make_directory(self._folder(vm))
                durable.rename(folder, self._folder(vm) / str(number))
            about["set"] = _digest(made)
        return {"name": name, "number": number}

    def restore(self, name: str, number: int, actor: str) -> dict[str, Json]:
        """Go back to a checkpoint; what the VM keeps now is lost.

        Raises:
            NotFound: there is none of that number.
            CheckpointRefused: it is not the one that was made; recorded, and nothing was changed.
            VmRuns: the VM is not off.
            VmgateError: it failed; the VM does not start before it is repeated.
        """
        whole = self._take(name)
        vm, uuid = whole.vm, whole.vm.definition.uuid
        with self._telling(name, actor, uuid=uuid, number=str(number)):
            found = self._verified(whole, number)
            with self._aside(vm) as folder:
                self._stage(whole, found, folder)
                with self._recorded("vm-restore", name, actor, uuid=uuid, number=str(number)) as about:
                    about["set"] = _digest(found)
                    with self._host.turn:
                        self._swap(whole, found, folder, actor)
        self._host.vms.define_all()
        return {"name": name, "number": number, "endorsement": found.endorsement}

    def remove(self, name: str, number: int, actor: str) -> dict[str, Json]:
        """Give a checkpoint up.

        Raises:
            NotFound: there is none of that number.
        """
        vm = self._host.vms.find(name)
        place = self._place(vm, number)
        with self._recorded("vm-checkpoint-remove", name, actor, uuid=vm.definition.uuid, number=str(number)):
            durable.remove_tree(place)
        return {"name": name, "number": number}

    def _take(self, name: str) -> _Whole:
        host = self._host
        vm = host.vms.find(name)
        if not host.vms.is_off(name):
            raise _runs(name)
        with host.turn:
            if name in host.launcher.running_now():
                raise _runs(name)
            try:
                secret = host.keys.reopen(vm.definition, vm.platform)
                note = VmTpm.parse(durable.read_file(host.outside.paths.vm(name) / "vtpm.json", VmTpm.LIMIT))
            except Missing as error:
                raise NotReady(
                    f"{name} has no checkpoints", cause="it was never started here, and keeps nothing",
                    remedy=f"`vmgate vm start {name}`",
                ) from error  # fmt: skip
            asked = host.launcher.asked[name]
        return _Whole(vm=vm, secret=secret, endorsement=note.endorsement, asked=asked)

    def _verified(self, whole: _Whole, number: int) -> Checkpoint:
        vm = whole.vm
        found = self._read(vm, number)
        if not hmac.compare_digest(hmac.digest(whole.key, found.message(), "sha256"), found.mac):
            raise _refused("its list was not written by this host for this VM")
        if found.number != number or self._known(vm).get(number) != _digest(found):
            raise _refused(f"it is not the checkpoint {number} that the audit trail has")
        if found.endorsement != whole.endorsement:
            raise _refused("it is of another TPM")
        strangers = {part.name.partition("/")[2] for part in found.parts if part.name != VTPM}
        if strangers - {disk.name for disk in kept(vm.definition.disks)}:
            raise _refused("the VM's definition has other disks that it keeps by now")
        return found

    def _stage(self, whole: _Whole, found: Checkpoint, folder: Path) -> None:
        """Copy each part, and look at the copy: what is looked at is what is used."""
        durable.require_space(folder, sum(part.length for part in found.parts))
        for place in ("disks", VTPM):
            durable.make_directory(folder / place, FOLDER_MODE)
        disks = {disk.name: disk for disk in kept(whole.vm.definition.disks)}
        for part in found.parts:
            target = _target(folder, part.name, disks)
            durable.copy_file(_kept_at(self._place(whole.vm, found.number), part.name), target)
            if digest_file(target).fsverity != part.fsverity:
                raise _refused(f"its part {part.name} was changed")
        endorsement = self._tpms.identify(folder / VTPM, whole.secret, whole.vm.programs)
        if endorsement != found.endorsement:
            raise _refused("its TPM is another one")

    def _swap(self, whole: _Whole, found: Checkpoint, folder: Path, actor: str) -> None:
        vm, name = whole.vm, whole.vm.definition.name
        own, key = self._host.outside.paths.vm(name), record_key(whole.secret)
        if self._host.launcher.asked[name] != whole.asked or name in self._host.launcher.running_now():
            raise _disturbed(name)
        parts = {part.name for part in found.parts}
        for disk in kept(vm.definition.disks):
            number = self._host.launcher.disks.ledger.newest(vm.definition.uuid, disk.name) + 1
            path = own_disk(folder, disk)
            record = read_record(record_path(path), key) if f"{RECORD}{disk.name}" in parts else None
            if record is None:
                # No guest had seen it then: the next start makes it.
                record = StateRecord(
                    vm=vm.definition.uuid, disk=disk.name, disk_class=disk.disk_class, state="new", number=number,
                    base=disk.image, mark=b"" if disk.image else os.urandom(MARK_SIZE),
                )  # fmt: skip
            about = {"uuid": vm.definition.uuid, "disk": disk.name, "number": str(number), "class": disk.disk_class}
            self._host.outside.audit.append("disk-restore", "started", name, actor, **about)
            write_record(record_path(path), replace(record, number=number), key)
        # From here to its end the VM has half of each.
        durable.write_file(own / RESTORING, str(found.number).encode())
        durable.remove_tree(own / "disks")
        durable.rename(folder / "disks", own / "disks")
        self._tpms.put(vm.definition.uuid, folder / VTPM / STATE_FILE)
        self._generations.draw(name)
        durable.remove(own / RESTORING)

    def _require_undisturbed(self, whole: _Whole, digests: dict[Path, str]) -> None:
        if any(digest_file(path).fsverity != digest for path, digest in digests.items()):
            raise _disturbed(whole.vm.definition.name)
        with self._host.turn:
            if self._host.launcher.asked[whole.vm.definition.name] != whole.asked:
                raise _disturbed(whole.vm.definition.name)

    @contextmanager
    def _aside(self, vm: VmPlan) -> Iterator[Path]:
        """A folder in the VM's for what is being made; what a cut leaves is swept at the agent's start."""
        folder = durable.temporary(self._host.outside.paths.vm(vm.definition.name))
        durable.make_directory(folder, FOLDER_MODE)
        try:
            yield folder
        finally:
            if folder.exists():
                durable.remove_tree(folder)

    @contextmanager
    def _recorded(self, event: str, name: str, actor: str, **about: str) -> Iterator[dict[str, str]]:
        audit, more = self._host.outside.audit, dict[str, str]()
        audit.append(event, "started", name, actor, **about)
        try:
            yield more
        except VmgateError as error:
            audit.append(event, "failed", name, actor, code=error.code, cause=error.cause, **about)
            raise
        audit.append(event, "done", name, actor, **about, **more)

    @contextmanager
    def _telling(self, name: str, actor: str, **about: str) -> Iterator[None]:
        try:
            yield
        except CheckpointRefused as error:
            self._host.outside.audit.append(
                "vm-restore", "refused", name, actor, code=error.code, cause=error.cause, **about
            )
            raise

    def _known(self, vm: VmPlan) -> dict[int, str]:
        """The digest of each checkpoint that was begun or made of a VM, by its number; empty where it was not made."""
        found: dict[int, str] = {}
        for record in records(self._host.outside.paths.audit):
            details = dict(record.details)
            if record.event == EVENT and details.get("uuid") == vm.definition.uuid:
                found[int(details["number"])] = details.get("set", "")
        return found

    def _read(self, vm: VmPlan, number: int) -> Checkpoint:
        return Checkpoint.parse(durable.read_file(self._place(vm, number) / DOCUMENT, Checkpoint.LIMIT))

    def _place(self, vm: VmPlan, number: int) -> Path:
        place = self._folder(vm) / str(number)
        if number not in self._numbers(vm):
            raise NotFound(
                f"there is no checkpoint {number} of {vm.definition.name}",
                cause="it was not made, or was removed",
                remedy=f"`vmgate vm checkpoints {vm.definition.name}`",
            )
        return place

    def _numbers(self, vm: VmPlan) -> tuple[int, ...]:
        folder = self._folder(vm)
        with storage("the checkpoints were not listed", folder):
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdecimal()))

    def _folder(self, vm: VmPlan) -> Path:
        return self._host.outside.paths.vm(vm.definition.name) / FOLDER


def _copied(folder: Path, part: str, source: Path) -> VmPart:
    target = _kept_at(folder, part)
    durable.copy_file(source, target)
    found = digest_file(target)
    return VmPart(name=part, length=found.length, fsverity=found.fsverity)


def _kept_at(folder: Path, part: str) -> Path:
    """Where a part lies in a checkpoint's folder; no name of a disk has this sign."""
    return folder / part.replace("/", "@")


def _target(folder: Path, part: str, disks: dict[str, Disk]) -> Path:
    kind, _, name = part.partition("/")
    if part == VTPM:
        return folder / VTPM / STATE_FILE
    path = own_disk(folder, disks[name])
    return path if f"{kind}/" == DISK else record_path(path)


def _digest(checkpoint: Checkpoint) -> str:
    return hashlib.sha256(checkpoint.encode()).hexdigest()


def _runs(name: str) -> VmRuns:
    return VmRuns(f"{name} was left as it is", cause="it runs", remedy=f"`vmgate vm stop {name}`")


def _disturbed(name: str) -> SetDisturbed:
    return SetDisturbed(
        f"{name} was left as it is", cause="it was started or changed meanwhile", remedy="stop it and try again"
    )


def _refused(cause: str) -> CheckpointRefused:
    return CheckpointRefused("nothing was restored", cause=cause, remedy="`vmgate explain AG205`")
