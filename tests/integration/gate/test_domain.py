# SPDX-License-Identifier: Apache-2.0
"""Somebody edits the VM in libvirt, past vmgate: libvirt accepts it, and the gate refuses the start.

Each edit is made to the XML that libvirt itself shows, as ``virsh edit`` would.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from lab.refusal import refused_by_libvirt, unchanged
from lab.world import VM_NAME, VM_UUID, World

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
WRAPPER = Path("/var/lib/libvirt/wrapper")
"""An emulator of somebody else's; the folder is this mount namespace's own."""
SHADOW = Path("/var/lib/libvirt/shadow")
"""A file of the host's that no guest may read."""
Edit = Callable[[etree._Element], None]


@pytest.fixture(autouse=True)
def files(world: World) -> None:
    """In the folders of the mount namespace that the world entered."""
    WRAPPER.write_text('#!/bin/sh\nexec /usr/bin/qemu-system-x86_64 "$@"\n')
    WRAPPER.chmod(0o755)
    SHADOW.touch(0o600)


def _set(path: str, text: str) -> Edit:
    def edit(domain: etree._Element) -> None:
        domain.find(path).text = text

    return edit


def _add(parent: str, xml: str) -> Edit:
    def edit(domain: etree._Element) -> None:
        (domain if parent == "." else domain.find(parent)).append(etree.fromstring(xml))

    return edit


def _remove(path: str) -> Edit:
    def edit(domain: etree._Element) -> None:
        element = domain.find(path)
        element.getparent().remove(element)

    return edit


def _attribute(path: str, name: str, value: str) -> Edit:
    def edit(domain: etree._Element) -> None:
        domain.find(path).set(name, value)

    return edit


def _memory(domain: etree._Element) -> None:
    domain.find("memory").text = domain.find("currentMemory").text = "393216"


DISK = (
    f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{SHADOW}'/>"
    "<target dev='vdz' bus='virtio'/><readonly/></disk>"
)
SHARE = "<filesystem type='mount' accessmode='mapped'><source dir='/etc'/><target dir='etc'/></filesystem>"
COMMAND_LINE = f"<c:commandline xmlns:c='{QEMU}'><c:arg value='-s'/></c:commandline>"

EDITS: dict[str, tuple[Edit, str]] = {
    "another emulator": (_set("devices/emulator", str(WRAPPER)), "/domain/devices[1]/emulator[1]"),
    "less memory": (_memory, "/domain/memory[1]"),
    "a disk more": (_add("devices", DISK), "/domain/devices[1]/disk[2]"),
    "another image": (_attribute("devices/disk/source", "file", "/etc/hostname"), "/domain/devices[1]/disk[1]/source"),
    "a writable image": (_remove("devices/disk/readonly"), "/domain/devices[1]/disk[1]/readonly[1]"),
    "a network card": (_add("devices", "<interface type='user'/>"), "/domain/devices[1]/interface[1]"),
    "a shared folder": (_add("devices", SHARE), "/domain/devices[1]/filesystem[1]"),
    "options of QEMU": (_add(".", COMMAND_LINE), f"/domain/{{{QEMU}}}commandline[1]"),
    "another firmware": (_set("os/loader", "/usr/share/OVMF/OVMF_CODE_4M.fd"), "/domain/os[1]/loader[1]"),
    "other firmware variables": (_set("os/nvram", "/var/lib/libvirt/qemu/nvram/other.fd"), "/domain/os[1]/nvram[1]"),
    "a kernel of its own": (_add("os", "<kernel>/vmlinuz</kernel>"), "/domain/os[1]/kernel[1]"),
    "a TPM in the clear": (_remove("devices/tpm/backend/encryption"), "/domain/devices[1]/tpm[1]/backend[1]/enc"),
    "no TPM": (_remove("devices/tpm"), "/domain/devices[1]/tpm[1]"),
    "a reboot past the gate": (_set("on_reboot", "restart"), "/domain/on_reboot[1]"),
}


def _edited(world: World, edit: Edit) -> Path:
    domain = etree.fromstring(world.virsh("dumpxml", "--inactive", "--security-info", VM_NAME).stdout)
    edit(domain)
    path = world.folder / "edited.xml"
    path.write_bytes(etree.tostring(domain))
    return path


def _define_as_signed(world: World) -> None:
    """What `vmgate vm start` does first, without the start."""
    path = world.folder / "signed.xml"
    path.write_text(world.ask("vm/show", name=VM_NAME)["xml"])
    world.libvirt.virsh("define", str(path))


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_domain_is_refused_and_the_difference_named(world: World, name: str) -> None:
    edit, where = EDITS[name]
    _define_as_signed(world)
    with unchanged(world):
        world.libvirt.virsh("define", str(_edited(world, edit)))
        failed = refused_by_libvirt(world, "start", VM_NAME)
    assert failed[0][0] == "domain"
    assert any(check == "domain" and subject.startswith(where) for check, subject in failed), failed
    assert {check for check, _ in failed} <= {"domain", "lint"}
    assert world.vm_state() == "shut off"
    assert (SHADOW.stat().st_uid, SHADOW.stat().st_mode & 0o777) == (0, 0o600), "libvirt handed nothing to QEMU's user"


def test_a_transient_domain_of_the_same_name_is_refused(world: World) -> None:
    """`virsh create` leaves libvirt's own definition alone and starts another one."""
    _define_as_signed(world)
    with unchanged(world):
        failed = refused_by_libvirt(world, "create", str(_edited(world, _memory)))
        assert ("domain", "/domain/memory[1]") in failed


def test_vmgate_starts_what_was_signed_whatever_libvirt_had(world: World) -> None:
    world.libvirt.virsh("define", str(_edited(world, _add("devices", DISK))))
    world.run("vm", "start", VM_NAME)
    live = world.virsh("dumpxml", VM_NAME).stdout
    assert str(SHADOW) not in live
    assert str(SHADOW) not in world.virsh("dumpxml", "--inactive", VM_NAME).stdout


OTHER_UUID = "99999999-52a1-4e0c-9a3a-6b8c1e0f4d21"


def _rename(name: str) -> Edit:
    def edit(domain: etree._Element) -> None:
        domain.find("name").text = name
        domain.find("uuid").text = OTHER_UUID
        domain.find("os/nvram").text = "/var/lib/libvirt/qemu/nvram/other.fd"

    return edit


def test_a_domain_that_no_release_defines_is_refused(world: World) -> None:
    """A copy of the VM under another name: nobody signed that one."""
    _define_as_signed(world)
    with unchanged(world):
        world.libvirt.virsh("define", str(_edited(world, _rename("goodbye"))))
        count = len(world.trail())
        done = world.virsh("start", "goodbye")
        assert done.returncode != 0
        assert "error[AG010]: goodbye was not started; definition of goodbye" in done.stderr
        (record,) = world.trail()[count:]
        assert (record.event, record.outcome, record.subject) == ("vm-start", "refused", "goodbye")
        assert dict(record.details)["check"] == "definition"
        world.libvirt.virsh("undefine", "goodbye", "--nvram")
    assert world.host.vmgate("vm", "start", "goodbye").exit == 3


def test_a_domain_of_our_name_with_another_uuid_is_refused_and_the_way_out_works(world: World) -> None:
    _define_as_signed(world)
    edited = _edited(world, _set("uuid", OTHER_UUID))
    with unchanged(world):
        world.libvirt.virsh("undefine", VM_NAME, "--keep-nvram")
        world.libvirt.virsh("define", str(edited))
        assert ("domain", "/domain/uuid[1]") in refused_by_libvirt(world, "start", VM_NAME)
        way_out = f"`virsh undefine {VM_NAME} --keep-nvram` removes another domain of that name"
        assert way_out in world.run("vm", "why", VM_NAME)
        done = world.host.vmgate("vm", "start", VM_NAME)
        assert done.exit == 7
        assert way_out in done.err
    world.libvirt.virsh("undefine", VM_NAME, "--keep-nvram")
    world.run("vm", "start", VM_NAME)
    assert world.virsh("domuuid", VM_NAME).stdout.strip() == VM_UUID
