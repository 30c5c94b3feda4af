# SPDX-License-Identifier: Apache-2.0
"""Channels between VMs, or between a VM and the host, that are not offered (FDP_VMS_EXT.1): each is refused twice.

The linter denies it wherever it stands, and the gate's comparison names it in a VM whose definition has no word for it.
Networks, devices and media are offered by grant and have tests of their own.
"""

from __future__ import annotations

import pytest
from lxml import etree

from hypervisor.compare import differences
from hypervisor.host_lint import lint_host
from hypervisor.lint import lint

DEVICES = "/domain/devices"
DISK = "<disk type='file' device='{}'><driver name='qemu' type='raw'/>{}<target dev='vdz' bus='virtio'/>{}</disk>"
SPICE = "<graphics type='spice'><listen type='none'/>{}</graphics>"
LINE = "<{0} type='{1}'>{2}<target port='1'/></{0}>"

CHANNELS: dict[str, tuple[str, str, str]] = {
    "shared disk": ("HV023", DEVICES, DISK.format("disk", "<source file='/s'/>", "<shareable/>")),
    "host's disk": (
        "HV026", DEVICES,
        DISK.format("disk", "<source dev='/dev/sda'/>", "").replace("type='file'", "type='block'", 1),
    ),
    "folder by 9p": ("HV020", DEVICES, "<filesystem type='mount'><source dir='/s'/><target dir='s'/></filesystem>"),
    "folder by virtiofs": (
        "HV020", DEVICES,
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/s'/><target dir='s'/></filesystem>",
    ),
    "shared memory": ("HV022", DEVICES, "<shmem name='s'><model type='ivshmem-plain'/></shmem>"),
    "shared memory with a server": ("HV022", DEVICES, "<shmem name='s'><server path='/s'/></shmem>"),
    "memory that others map": ("HV074", "/domain/memoryBacking", "<access mode='shared'/>"),
    "memory in a file": ("HV074", "/domain/memoryBacking", "<source type='file'/>"),
    "memory device": ("HV074", DEVICES, "<memory model='nvdimm'/>"),
    "vsock": ("HV062", DEVICES, "<vsock model='virtio'><cid auto='no' address='3'/></vsock>"),
    "clipboard": ("HV031", DEVICES, SPICE.format("<filetransfer enable='no'/>")),
    "clipboard's agent": (
        "HV031", DEVICES, "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    ),
    "clipboard's agent over VNC": (
        "HV031", DEVICES, "<channel type='qemu-vdagent'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    ),
    "files dragged into the view": ("HV032", DEVICES, SPICE.format("<clipboard copypaste='no'/>")),
    "folder of the viewer": (
        "HV032", DEVICES, "<channel type='spiceport'><target type='virtio' name='org.spice-space.webdav.0'/></channel>",
    ),
    "serial line to a socket": ("HV060", DEVICES, LINE.format("serial", "unix", "<source mode='bind' path='/s'/>")),
    "serial line to a port": ("HV060", DEVICES, LINE.format("serial", "tcp", "<source mode='bind' host='::'/>")),
    "serial line to a pipe": ("HV060", DEVICES, LINE.format("serial", "pipe", "<source path='/s'/>")),
    "serial line to another VM's": ("HV060", DEVICES, LINE.format("serial", "dev", "<source path='/dev/pts/3'/>")),
    "parallel port to a file": ("HV060", DEVICES, LINE.format("parallel", "file", "<source path='/s'/>")),
    "console to a file": ("HV060", DEVICES, LINE.format("console", "file", "<source path='/s'/>")),
    "floppy": ("HV028", DEVICES, DISK.format("floppy", "<source file='/s'/>", "")),
    "host's optical drive": ("HV028", DEVICES, DISK.format("cdrom", "<source file='/dev/sr0'/>", "<readonly/>")),
    "medium that can be written": ("HV023", DEVICES, DISK.format("cdrom", "<source file='/s'/>", "")),
    "USB by the viewer": ("HV040", DEVICES, "<redirdev bus='usb' type='spicevmc'/>"),
    "host's keyboard": ("HV043", DEVICES, "<input type='evdev'><source dev='/dev/input/event0'/></input>"),
    "host's smart card": ("HV043", DEVICES, "<smartcard mode='host'/>"),
    "mediated device": ("HV043", DEVICES, "<hostdev mode='subsystem' type='mdev'/>"),
    "PCI device that the host does not let go": (
        "HV042", DEVICES, "<hostdev mode='subsystem' type='pci' managed='no'/>",
    ),
    "network of anybody's": ("HV051", DEVICES, "<interface type='user'/>"),
    "network by multicast": (
        "HV051", DEVICES, "<interface type='mcast'><source address='230.0.0.1' port='5'/></interface>",
    ),
    "network by a socket to another VM": (
        "HV051", DEVICES, "<interface type='server'><source address='::' port='5'/></interface>",
    ),
    "network by shared memory": ("HV051", DEVICES, "<interface type='vhostuser'/>"),
    "host's card": ("HV050", DEVICES, "<interface type='direct'><source dev='eth0' mode='passthrough'/></interface>"),
    "bridge without a filter": ("HV053", DEVICES, "<interface type='bridge'><source bridge='br0'/></interface>"),
    "file of the host by its name": (
        "HV011", "/domain", "<sysinfo type='fwcfg'><entry name='opt/x' file='/s'/></sysinfo>",
    ),
    "display that all see": ("HV030", DEVICES, "<graphics type='vnc' listen='0.0.0.0'/>"),
    "options of QEMU": (
        "HV004", "/domain",
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-s'/></q:commandline>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_that_is_not_offered_is_denied_and_named(rendered: str, prepared: bytes, name: str) -> None:
    rule, parent, xml = CHANNELS[name]
    domain = etree.fromstring(prepared)
    before = {finding.id for finding in lint(prepared) if finding.level == "deny"}
    (place,) = domain.xpath(parent)
    place.append(etree.fromstring(xml))
    spoiled = etree.tostring(domain)
    assert rule in {finding.id for finding in lint(spoiled) if finding.level == "deny"} - before
    assert differences(rendered, spoiled)


SHARED = {
    "disk": ("HV023", DISK.format("disk", "<source file='/s'/>", "")),
    "serial line": ("HV060", LINE.format("serial", "file", "<source path='/s'/>")),
    "folder": ("HV021", "<filesystem type='mount'><source dir='/s'/></filesystem>"),
    "hardware address": ("HV053", "<interface type='network'><mac address='02:00:00:00:00:01'/></interface>"),
    "USB device": ("HV041", "<hostdev type='usb'><source><address bus='1' device='2'/></source></hostdev>"),
}


@pytest.mark.parametrize("name", SHARED)
def test_what_two_vms_have_in_common_is_denied_even_if_neither_says_so(prepared: bytes, name: str) -> None:
    rule, xml = SHARED[name]
    domain = etree.fromstring(prepared)
    domain.find("devices").append(etree.fromstring(xml))
    first = etree.tostring(domain)
    domain.find("name").text = "vault"
    second = etree.tostring(domain)
    found = lint_host({"desk": first, "vault": second})
    assert {(one.domain, one.finding.level) for one in found if one.finding.id == rule} == {
        ("desk", "deny"), ("vault", "deny"),
    }  # fmt: skip
