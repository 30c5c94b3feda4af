# SPDX-License-Identifier: Apache-2.0
"""What a VM that is off keeps on this host, as files: its TPM's state, and each kept disk with its record.

A disk that no guest has seen is left out: the next start makes it. Firmware variables are none of it, since each start
makes them anew (decision 0011). This module copies nothing.
"""

from __future__ import annotations

from pathlib import Path

from agent.disk_ledger import DiskLedger
from agent.disk_look import look
from agent.disk_records import read_record, record_key, record_path
from agent.plan import VmPlan
from agent.set_errors import SetUnfit
from agent.vtpm import STATE_FILE
from documents.definition import Disk
from documents.errors import VmgateError
from documents.state_record import BOUND_CLASSES
from documents.vm_set import DISK, RECORD, VTPM


def kept(disks: tuple[Disk, ...]) -> tuple[Disk, ...]:
    """The disks that a VM keeps over its stops."""
    return tuple(disk for disk in disks if disk.disk_class in BOUND_CLASSES)


def state_file(states: Path, uuid: str) -> Path:
    """Where the state of a VM's TPM lies."""
    return states / uuid / "tpm2" / STATE_FILE


def parts_of(vm: VmPlan, secret: str, ledger: DiskLedger, states: Path) -> dict[str, Path]:
    """The parts of a VM by their names in a set, sorted.

    Args:
        vm: which is off.
        secret: its key.
        ledger: knows the newest records.
        states: where libvirt keeps the states of VMs' TPMs.

    Raises:
        SetUnfit: a disk is not as a clean stop left it.
    """
    found = {VTPM: state_file(states, vm.definition.uuid)}
    key = record_key(secret)
    for disk in kept(vm.definition.disks):
        try:
            seen = look(vm, disk, key, ledger.newest(vm.definition.uuid, disk.name))
        except VmgateError as error:
            raise _unfit(vm, f"disk {disk.name}: {error.cause}") from error
        if seen.crashed:
            raise _unfit(vm, f"disk {disk.name} was not closed: the host or QEMU was cut off")
        path = vm.placement.own_disks[disk.name]
        if seen.record is not None and seen.present is not None:
            found |= {f"{DISK}{disk.name}": path, f"{RECORD}{disk.name}": record_path(path)}
    return dict(sorted(found.items()))


def numbers_of(vm: VmPlan, secret: str) -> dict[str, str]:
    """The number of each kept disk's record, by the disk's name."""
    records = {
        disk.name: read_record(record_path(vm.placement.own_disks[disk.name]), record_key(secret))
        for disk in kept(vm.definition.disks)
    }
    return {name: str(record.number) for name, record in records.items() if record is not None}


def _unfit(vm: VmPlan, cause: str) -> SetUnfit:
    return SetUnfit(
        f"nothing of {vm.definition.name} was copied",
        cause=cause,
        remedy=f"start and stop it, or see `vmgate vm why {vm.definition.name}`",
    )
