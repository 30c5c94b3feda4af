# SPDX-License-Identifier: Apache-2.0
"""The disks that guests write: made before a start, bound by a state record while it is kept, closed at the stop.

What is ``ephemeral`` is made empty at each start and removed at each stop. Of what is kept, a record is opened before
QEMU gets the disk and closed when libvirt says that QEMU has ended, if the agent saw it all: whoever is cut off in
between finds an open record. Its user holds the launcher's turn. This module does not say yes to a start: it tells
findings, of which one that fails is a no.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.audit import AuditTrail
from agent.disk_files import FOLDER_MODE, key_area_digest, open_chain, open_own, require_own_folder
from agent.disk_ledger import DiskLedger
from agent.disk_look import Seen, look, present, refused
from agent.disk_records import SUFFIX, passphrase, read_record, record_key, record_path, write_record
from agent.findings import make_finding, told
from agent.paths import HostPaths
from agent.plan import EPHEMERAL, VmPlan
from agent.vm_errors import RecordRefused
from content import durable, patching
from content.errors import storage
from content.fsverity import digest_file
from documents.definition import Disk
from documents.errors import VmgateError
from documents.state_record import BOUND_CLASSES, MARK_SIZE, StateRecord
from documents.verdict import Finding
from hypervisor import qcow2
from hypervisor.luks import encode_key_area
from hypervisor.qcow2 import MAX_HEADER, parse_header
from hypervisor.qcow2_write import encode_data, encode_overlay, put_generation

log = logging.getLogger(__name__)


class Disks:
    """The disks of this host's VMs.

    Args:
        paths: of the host.
        audit: told of each record.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail) -> None:
        self._paths = paths
        self._audit = audit
        self.ledger = DiskLedger(paths, audit)
        self._opened: dict[str, bytes] = {}
        """Of each VM whose disks were opened and not closed yet, the key of its records."""
        self._seen: dict[str, tuple[Seen, ...]] = {}

    def forget(self, name: str) -> None:
        """A VM's stop was not seen: what it had open stays open, as after a crash."""
        self._opened.pop(name, None)
        self._seen.pop(name, None)

    def findings(self, vm: VmPlan, secret: str) -> tuple[Finding, ...]:
        """One finding for each disk that the VM keeps; nothing is changed.

        Args:
            vm: which libvirt is about to start.
            secret: the VM's key.
        """
        name, key = vm.definition.name, record_key(secret)
        found, seen = [], []
        for disk in _kept(vm):
            try:
                one = look(vm, disk, key, self.ledger.newest(vm.definition.uuid, disk.name))
            except VmgateError as error:
                found.append(make_finding("disk-state", f"disk {disk.name}", "fail", "as it was left", told(error)))
                continue
            seen.append(one)
            outcome = "warn" if one.crashed else "pass"
            what = "not closed: the host or QEMU was cut off" if one.crashed else f"as record {one.number} says"
            what = what if one.record else "made by this start"
            found.append(make_finding("disk-state", f"disk {disk.name}", outcome, "as it was left", what))
        self._seen[name] = tuple(seen)
        return tuple(found)

    def prepare(self, vm: VmPlan, secret: str, actor: str) -> None:
        """Make what is made at a start, and open the records of what is kept. The gate has said yes.

        Raises:
            VmgateError: the VM must not start; ``close`` undoes what was done.
        """
        written = [disk for disk in vm.definition.disks if disk.disk_class != "readonly"]
        if not written:
            return
        name, key = vm.definition.name, record_key(secret)
        folder = self._folder(name)
        durable.make_directory(folder, FOLDER_MODE)
        require_own_folder(folder)
        self._opened[name] = key
        for disk in written:
            if disk.disk_class == EPHEMERAL:
                _make_overlay(vm, disk)
        for one in self._seen.pop(name, ()):
            self._open(vm, one, secret, actor)

    def passphrases(self, vm: VmPlan, secret: str) -> dict[str, bytes]:
        """What opens the encrypted disks of a VM, by their names."""
        return {name: passphrase(secret, name) for name in vm.placement.disk_secrets}

    def _open(self, vm: VmPlan, one: Seen, secret: str, actor: str) -> None:
        disk, path, key = one.disk, vm.placement.own_disks[one.disk.name], record_key(secret)
        about = {"uuid": vm.definition.uuid, "disk": disk.name, "number": str(one.number), "class": disk.disk_class}
        self._audit.append("disk-state", "started", vm.definition.name, actor, **about)
        if one.crashed:
            self._audit.append("disk-crash", "done", vm.definition.name, actor, **about)
        if one.record is None or one.present is None:
            record = self._make(vm, disk, one.number, secret)
        else:
            record = replace(one.record, mark=one.present.mark)
        opened = replace(record, state="open", next_mark=os.urandom(MARK_SIZE) if record.mark else b"")
        write_record(record_path(path), opened, key)

    def _make(self, vm: VmPlan, disk: Disk, number: int, secret: str) -> StateRecord:
        """Make a disk that no guest has seen. A cut leaves its record new, and the next start makes it again."""
        path, key = vm.placement.own_disks[disk.name], record_key(secret)
        record = StateRecord(
            vm=vm.definition.uuid, disk=disk.name, disk_class=disk.disk_class, state="new", number=number,
            base=disk.image, mark=b"" if disk.image else os.urandom(MARK_SIZE),
        )  # fmt: skip
        write_record(record_path(path), record, key)
        if disk.image:
            _make_overlay(vm, disk)
            return record
        key_area = encode_key_area(passphrase(secret, disk.name), vm.placement.disk_secrets[disk.name], os.urandom)
        durable.write_file(path, encode_data(disk.length, key_area, record.mark))
        with open_chain(vm, disk) as (image, header):
            return replace(record, image=key_area_digest(image, header))

    def adopt(self, vm: VmPlan, secret: str) -> None:
        """A VM runs that an earlier agent started: its stop will be seen."""
        if _kept(vm):
            self._opened[vm.definition.name] = record_key(secret)

    def close(self, name: str, actor: str) -> None:
        """QEMU has ended, or was not started: sign how the disks are, and remove what is not kept.

        What cannot be done is recorded and told to the journal; such a disk stays open, as after a crash.
        """
        folder, key = self._folder(name), self._opened.pop(name, None)
        try:
            if not require_own_folder(folder):
                return
            with storage("the disks were not listed", folder):
                files = sorted(path for path in folder.iterdir())
        except VmgateError as error:
            log.warning("the disks of %s were not closed: %s", name, error)
            return
        for path in files:
            try:
                if path.name.endswith(f".{EPHEMERAL}.qcow2"):
                    durable.remove(path)
                elif key is not None and path.suffix == SUFFIX:
                    self._close(name, path, key, actor)
            except VmgateError as error:
                log.warning("%s was not closed: %s", path, error)
                self._tell_failure(name, path, error, actor)

    def _tell_failure(self, name: str, path: Path, error: VmgateError, actor: str) -> None:
        try:
            self._audit.append("disk-state", "failed", name, actor, disk=path.stem, code=error.code, cause=error.cause)
        except VmgateError as second:
            log.warning("and that was not recorded: %s", second)

    def _close(self, name: str, path: Path, key: bytes, actor: str) -> None:
        record = read_record(path, key)
        if record is None or record.state != "open":
            return
        closed = replace(record, state="closed", number=record.number + 1, next_mark=b"")
        disk = path.with_suffix(".qcow2")
        with open_own(disk) as image:
            head = image.head(MAX_HEADER)
            if parse_header(head).incompatible & qcow2.DIRTY:
                raise RecordRefused(
                    "the disk was not closed", cause="QEMU was cut off while it had it open", remedy="see the VM's log"
                )
        if record.mark:
            _mark(disk, head, record.next_mark)
            closed = replace(closed, mark=record.next_mark)
        else:
            patching.sync(disk)
            closed = replace(closed, image=digest_file(disk).fsverity)
        write_record(path, closed, key)
        about = {"uuid": record.vm, "disk": record.disk, "number": str(closed.number), "class": record.disk_class}
        self._audit.append("disk-state", "done", name, actor, **about)

    def accept(self, vm: VmPlan, secret: str, actor: str) -> Iterator[tuple[str, str]]:
        """Take each kept disk of a VM that is off as it is now; gives its name and what was wrong with it.

        The file must still be the VM's alone and stand on the declared chain: nobody can accept another one.

        Raises:
            VmgateError: a disk is none that can be taken.
        """
        uuid, key = vm.definition.uuid, record_key(secret)
        for disk in _kept(vm):
            newest = self.ledger.newest(uuid, disk.name)
            try:
                look(vm, disk, key, newest)
                continue
            except VmgateError as error:
                why = error.cause
            path = vm.placement.own_disks[disk.name]
            require_own_folder(path.parent)
            record = StateRecord(
                vm=uuid, disk=disk.name, disk_class=disk.disk_class, state="new", number=newest + 1, base=disk.image,
                mark=b"" if disk.image else os.urandom(MARK_SIZE),
            )  # fmt: skip
            there = os.path.lexists(path)
            if there:
                found = present(vm, disk)
                if not disk.image and not found.mark:
                    raise refused(disk, "it has no mark, so that no host of vmgate made it")
                record = replace(record, state="closed", image=found.image, mark=found.mark)
                if record.mark and found.dirty:
                    # It was not closed, and that is what the next start is to record.
                    record = replace(record, state="open", next_mark=os.urandom(MARK_SIZE))
            about = {"uuid": uuid, "disk": disk.name, "number": str(record.number), "class": disk.disk_class}
            about |= {"why": why, "found": record.image or "nothing: made anew by the next start"}
            self._audit.append("disk-accept", "started", vm.definition.name, actor, **about)
            durable.make_directory(path.parent, FOLDER_MODE)
            write_record(record_path(path), record, key)
            self._audit.append("disk-accept", "done", vm.definition.name, actor, **about)
            yield disk.name, why

    def _folder(self, name: str) -> Path:
        return self._paths.vm(name) / "disks"


def _kept(vm: VmPlan) -> tuple[Disk, ...]:
    return tuple(disk for disk in vm.definition.disks if disk.disk_class in BOUND_CLASSES)


def _make_overlay(vm: VmPlan, disk: Disk) -> None:
    """Write an empty overlay, and look at it as QEMU will find it."""
    path = vm.placement.own_disks[disk.name]
    durable.write_file(path, encode_overlay(disk.length, str(vm.placement.disks[disk.name]), "raw"))
    with open_chain(vm, disk):
        return


def _mark(path: Path, head: bytes, mark: bytes) -> None:
    """Put another mark into a header. The bytes lie in one sector; where they were torn, the mark is none of both."""
    changed = put_generation(head, mark)
    places = [at for at, (old, new) in enumerate(zip(head, changed, strict=True)) if old != new]
    if places:
        patching.patch(path, places[0], changed[places[0] : places[-1] + 1])
