# SPDX-License-Identifier: Apache-2.0
"""Is a disk that a VM keeps still as the host left it? Compared with its state record before each start.

What is seen: for a ``sealed`` disk any change of any byte; for a ``persistent`` one that it is this VM's disk, and the
one of the last clean stop. What is not: a change of single blocks of a persistent disk, whose content nobody digests;
a copy of it from the same run; or a copy whose mark somebody with root's power wrote anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent.disk_files import key_area_digest, open_chain
from agent.disk_records import read_record, record_path
from agent.plan import VmPlan
from agent.vm_errors import RecordRefused
from content.fsverity import digest_descriptor
from documents.definition import Disk
from documents.state_record import StateRecord
from hypervisor import qcow2


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What lies there now.

    Attributes:
        image: as in ``StateRecord``.
        mark: as in ``StateRecord``; empty for a sealed disk.
        dirty: QEMU was cut off while it had the file open, or has it open.
    """

    image: str
    mark: bytes
    dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A disk that may be used.

    Attributes:
        disk: of the definition.
        number: of its record.
        record: None where the start makes the disk.
        present: None where the start makes the disk.
        crashed: the record was not closed.
    """

    disk: Disk
    number: int
    record: StateRecord | None = None
    present: Present | None = None
    crashed: bool = False


def present(vm: VmPlan, disk: Disk) -> Present:
    """Look at the file of a disk. A sealed one is read as a whole.

    Raises:
        VmgateError: it is no file of the VM's own, or not the declared chain.
    """
    with open_chain(vm, disk) as (image, header):
        dirty = bool(header.incompatible & qcow2.DIRTY)
        if disk.disk_class == "sealed":
            found = digest_descriptor(image.descriptor, vm.placement.own_disks[disk.name])
            return Present(image=found.fsverity, mark=b"", dirty=dirty)
        return Present(image=key_area_digest(image, header), mark=header.generation, dirty=dirty)


def look(vm: VmPlan, disk: Disk, key: bytes, newest: int) -> Seen:
    """Compare a disk with its record.

    Args:
        vm: as it would be started.
        disk: of its definition.
        key: that signs the VM's records.
        newest: the number of its newest record, as the audit trail has it; 0 for none.

    Raises:
        RecordRefused: it is not as it was left.
        VmgateError: the record or the disk cannot be read.
    """
    path = vm.placement.own_disks[disk.name]
    there = os.path.lexists(path)
    record = read_record(record_path(path), key) if os.path.lexists(path.parent) else None
    if record is None:
        if there:
            raise refused(disk, "it is there, and its state record is not")
        if newest:
            raise refused(disk, f"it is gone with its state record, whose number was {newest}")
        return Seen(disk=disk, number=1)
    _require_about(record, vm, disk, newest)
    if record.state == "new":
        return Seen(disk=disk, number=record.number)
    if not there:
        raise refused(disk, "its file is gone")
    if disk.disk_class == "sealed" and record.state == "open":
        raise refused(disk, "the host or QEMU was cut off while the VM ran")
    found = present(vm, disk)
    if found.image != record.image:
        what = "the overlay" if disk.disk_class == "sealed" else "the key area, and so the disk,"
        raise refused(disk, f"{what} is not the one of the last stop: {found.image}, and was {record.image}")
    if found.mark not in {record.mark, record.next_mark} - {b""} and disk.disk_class == "persistent":
        raise refused(
            disk, f"it is a copy from another time: mark {found.mark.hex()}, and {record.mark.hex()} was left"
        )
    # Of a sealed disk the digest says it all: one that was accepted after a crash is dirty, and is as it was accepted.
    if disk.disk_class == "persistent" and record.state == "closed" and found.dirty:
        raise refused(disk, "it was opened for writing since the last stop")
    return Seen(disk=disk, number=record.number, record=record, present=found, crashed=record.state == "open")


def _require_about(record: StateRecord, vm: VmPlan, disk: Disk, newest: int) -> None:
    about = (record.vm, record.disk, record.disk_class)
    if about != (vm.definition.uuid, disk.name, disk.disk_class):
        raise refused(disk, f"its state record is of the disk {record.disk} of the VM {record.vm}")
    if record.number < newest:
        raise refused(disk, f"its state record is number {record.number}, and number {newest} was written")
    if record.base != disk.image:
        raise refused(disk, f"it was made over the image {record.base}, and its release has another one now")


def refused(disk: Disk, cause: str) -> RecordRefused:
    """The refusal of a disk."""
    return RecordRefused(
        f"disk {disk.name} was refused", cause=cause, remedy="see docs/guide/disks.md, `vmgate explain AG161`"
    )
