# SPDX-License-Identifier: Apache-2.0
"""The files of a VM's own disks: whether each is the VM's alone, and stands on what its definition names.

Every file is opened once, by the name that follows from the definition and not by one that is found in another file.
What a disk holds is not looked at (``agent.disks`` compares it with its record).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from agent.plan import VmPlan
from agent.vm_errors import DiskNotAlone
from documents.definition import Disk
from hypervisor.image_file import ImageFile, open_image
from hypervisor.qcow2 import Qcow2Header
from hypervisor.qcow2_chain import Layer, verify_chain
from hypervisor.qcow2_write import SECTOR

VMM_USERS = ("libvirt-qemu", "qemu")
"""Whom libvirt runs QEMU as; it gives that user the disk of a VM that runs."""

FOLDER_MODE = 0o711
"""QEMU's user may pass through, and can make, rename and list nothing."""


def require_own_folder(folder: Path) -> bool:
    """Whether the folder of a VM's disks is there.

    Raises:
        DiskNotAlone: it, or the VM's folder that it lies in, is a link, or somebody else's.
    """
    for place in (folder.parent, folder):
        try:
            status = place.lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _not_alone(place, str(error)) from error
        if not stat.S_ISDIR(status.st_mode):
            raise _not_alone(place, "it is a link, or no folder")
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _not_alone(place, "others than root can change what lies in it")
    return True


@contextmanager
def open_own(path: Path) -> Iterator[ImageFile]:
    """Open the file of a VM's own disk.

    Raises:
        ImageUnreadable: there is none, or it is a link or no regular file.
        DiskNotAlone: it has a second name, or somebody else can read or write it.
    """
    with open_image(path) as image:
        status = os.fstat(image.descriptor)
        if status.st_nlink != 1:
            raise _not_alone(path, f"the same file has {status.st_nlink} names")
        if status.st_uid not in _owners() or stat.S_IMODE(status.st_mode) & 0o077:
            raise _not_alone(path, f"its owner is user {status.st_uid}, its mode {stat.S_IMODE(status.st_mode):o}")
        yield image


@contextmanager
def open_chain(vm: VmPlan, disk: Disk) -> Iterator[tuple[ImageFile, Qcow2Header]]:
    """Open a disk that its guest can write, with all that it stands on; gives the file on top and its header.

    Raises:
        ImageUnreadable, DiskNotAlone: see ``open_own``.
        ImageRefused: the chain is not the one that the definition names (``hypervisor.qcow2_chain``).
    """
    path = vm.placement.own_disks[disk.name]
    size = -(-disk.length // SECTOR) * SECTOR
    top = Layer(name=str(path), image_format="qcow2", kind="overlay" if disk.image else "data", virtual_size=size)
    with ExitStack() as stack:
        layers, images = [top], [stack.enter_context(open_own(path))]
        if disk.image:
            base = vm.placement.disks[disk.name]
            layers.append(Layer(name=str(base), image_format="raw", kind="base", virtual_size=disk.length))
            images.append(stack.enter_context(open_image(base)))
        header = verify_chain(layers, images, f"disk {disk.name}")[0]
        if header is None:
            raise ValueError("the image on top is raw")
        yield images[0], header


def verify_own_chain(vm: VmPlan, disk: Disk) -> str:
    """Check what is there of a disk that its guest can write, before a start; returns what was found.

    What is ephemeral is replaced by the start, and what is not there yet is made by it.

    Raises:
        VmgateError: as ``require_own_folder`` and ``open_chain``.
    """
    path = vm.placement.own_disks[disk.name]
    if not require_own_folder(path.parent) or not os.path.lexists(path):
        return "made by this start"
    if disk.disk_class == "ephemeral":
        return "made anew by this start"
    with open_chain(vm, disk):
        return "the declared chain"


def key_area_digest(image: ImageFile, header: Qcow2Header) -> str:
    """SHA-256 of the LUKS header in an image that ``open_chain`` took: no other disk has the same.

    Raises:
        DiskNotAlone: it cannot be read.
    """
    if header.key_area is None:
        raise ValueError("the image has no key area")
    offset, length = header.key_area
    try:
        area = os.pread(image.descriptor, length, offset)
    except OSError as error:
        raise _not_alone(Path("the disk"), str(error)) from error
    return hashlib.sha256(area).hexdigest()


@cache
def _owners() -> frozenset[int]:
    found = {os.geteuid()}
    for name in VMM_USERS:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return frozenset(found)


def _not_alone(path: Path, why: str) -> DiskNotAlone:
    return DiskNotAlone(
        "a disk of the VM was not used",
        cause=f"{path}: {why}",
        remedy="find out who changed it; put back what was there at the last stop, or `vmgate vm delete`",
    )
