# SPDX-License-Identifier: Apache-2.0
"""A clean domain spoiled in one way at a time: for each expression of each rule, one that breaks it."""

from __future__ import annotations

from lxml import etree

LIMIT = "<bandwidth><inbound average='1'/></bandwidth>"
NET = (
    "<interface type='network'><source network='n'/><model type='virtio'/><port isolated='yes'/>"
    "<filterref filter='clean-traffic'/>" + LIMIT + "{}</interface>"
)
PEERS = (
    "<interface type='network'><source network='vmgate-lan'/><model type='virtio'/>"
    "<filterref filter='vmgate-lan'/>" + LIMIT + "</interface>"
)
SPICE = (
    "<graphics type='spice'{}><listen type='none'/><clipboard copypaste='no'/><filetransfer enable='no'/>{}</graphics>"
)
VNC = "<graphics type='vnc'{}>{}</graphics>"
DISK = "<disk type='file' device='{}'{}><driver name='qemu' type='raw'/>{}<target dev='vdb' bus='virtio'/></disk>"
QCOW = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a'/>{}</disk>"
PTY = "<channel type='{}'><target type='virtio' name='{}'/></channel>"
BACKED = QCOW.format("<backingStore type='network'><format type='raw'/></backingStore>")
VIDEO = "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>"
USB = "<hostdev type='usb'><source>{}</source></hostdev>"
DIRECT = "<interface type='direct'><source dev='e' mode='{}'/></interface>"
TRUSTING = NET.format("").replace("<interface", "<interface trustGuestRxFilters='yes'")
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"

# What is done to a clean domain: `set` an attribute, the `text`, `add` a child, `drop` the element.
CASES: list[tuple[str, str, str, str, str]] = [
    ("HV000", "deny", "add", "/domain", "<invented/>"),
    ("HV000", "deny", "set", "/domain/devices/disk", "invented=yes"),
    ("HV001", "deny", "set", "/domain", "type=qemu"),
    ("HV002", "deny", "set", "/domain/os/type", "machine=q35"),
    ("HV002", "deny", "set", "/domain/os/type", "machine=pc-i440fx-7.2"),
    ("HV002", "deny", "drop", "/domain/os/type", ""),
    ("HV003", "deny", "text", "/domain/devices/emulator", "/usr/bin/../../tmp/qemu"),
    ("HV003", "deny", "text", "/domain/devices/emulator", "/run/vmgate/vmm/current/bin/qemu-system-x86_64"),
    ("HV003", "deny", "text", "/domain/devices/emulator", f"/tmp/run/vmgate/vmm/{'0' * 64}/bin/qemu-system-x86_64"),
    ("HV004", "deny", "add", "/domain", f"<q:commandline xmlns:q='{QEMU}'><q:arg value='-s'/></q:commandline>"),
    ("HV005", "deny", "add", "/domain", "<seclabel type='none'/>"),
    ("HV005", "deny", "drop", "/domain/devices/disk/readonly", ""),
    ("HV005", "warn", "add", "/domain", "<seclabel type='static' model='dac'/>"),
    ("HV006", "deny", "set", "/domain/os/loader", "readonly=no"),
    ("HV006", "deny", "set", "/domain/os/loader", "type=rom"),
    ("HV006", "deny", "text", "/domain/os/loader", "code.fd"),
    ("HV007", "deny", "set", "/domain/os/loader", "secure=no"),
    ("HV007", "deny", "drop", "/domain/os/loader", ""),
    ("HV007", "deny", "set", "/domain/os", "firmware=efi"),
    ("HV007", "deny", "set", "/domain/features/smm", "state=off"),
    ("HV008", "deny", "drop", "/domain/os/nvram", ""),
    ("HV008", "deny", "text", "/domain/os/nvram", "/var/lib/libvirt/qemu/nvram/a.fd"),
    ("HV008", "deny", "text", "/domain/os/nvram", "vars.fd"),
    ("HV008", "deny", "add", "/domain/os/nvram", "<source file='/var/lib/libvirt/qemu/nvram/a.fd'/>"),
    ("HV008", "deny", "set", "/domain/os/nvram", "type=network"),
    ("HV008", "deny", "set", "/domain/os/nvram", "template=/tmp/t.fd"),
    ("HV009", "deny", "add", "/domain/os", "<kernel>/k</kernel>"),
    ("HV009", "deny", "add", "/domain/os", "<initrd>/i</initrd>"),
    ("HV009", "deny", "add", "/domain/os", "<cmdline>quiet</cmdline>"),
    ("HV009", "deny", "add", "/domain/os", "<dtb>/d</dtb>"),
    ("HV010", "deny", "add", "/domain/os", "<bootmenu enable='yes'/>"),
    ("HV010", "deny", "add", "/domain/os", "<boot dev='network'/>"),
    ("HV010", "deny", "add", "/domain/os", "<bios useserial='yes'/>"),
    ("HV010", "deny", "add", "/domain/devices", "<hostdev type='pci' managed='yes'><rom file='/r'/></hostdev>"),
    ("HV010", "deny", "add", "/domain/devices", NET.format("<boot order='2'/>")),
    ("HV011", "deny", "add", "/domain/os", "<smbios mode='host'/>"),
    ("HV011", "deny", "add", "/domain/os", "<acpi><table type='slic'>/t</table></acpi>"),
    ("HV011", "deny", "add", "/domain", "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>"),
    ("HV020", "deny", "add", "/domain/devices", "<filesystem type='mount'><source dir='/'/></filesystem>"),
    ("HV022", "deny", "add", "/domain/devices", "<shmem name='s'/>"),
    ("HV023", "deny", "add", "/domain/devices", DISK.format("disk", "", "<shareable/>")),
    ("HV023", "deny", "add", "/domain/devices", DISK.format("cdrom", "", "")),
    ("HV024", "deny", "add", "/domain/devices", QCOW.format("")),
    ("HV024", "deny", "add", "/domain/devices", QCOW.format("<backingStore><source file='/b'/></backingStore>")),
    ("HV024", "deny", "add", "/domain/devices", BACKED),
    ("HV024", "deny", "add", "/domain/devices", DISK.format("disk", "", "<source file='json:{}'/>")),
    ("HV024", "deny", "add", "/domain/devices", DISK.format("disk", "", "<source file='/a'><dataStore/></source>")),
    ("HV025", "deny", "drop", "/domain/devices/disk/driver", ""),
    ("HV026", "deny", "set", "/domain/devices/disk", "type=block"),
    ("HV026", "deny", "set", "/domain/devices/disk", "device=lun"),
    ("HV026", "deny", "set", "/domain/devices/disk", "sgio=unfiltered"),
    ("HV026", "deny", "add", "/domain/devices/disk/source", "<reservations managed='yes'/>"),
    ("HV027", "deny", "set", "/domain/devices/disk/driver", "cache=unsafe"),
    ("HV027", "deny", "set", "/domain/devices/disk/driver", "copy_on_read=on"),
    ("HV027", "deny", "add", "/domain/devices/disk", "<mirror/>"),
    ("HV028", "deny", "set", "/domain/devices/disk", "device=floppy"),
    ("HV028", "deny", "add", "/domain/devices", DISK.format("cdrom", "", "<source file='/dev/sr0'/><readonly/>")),
    ("HV028", "grant", "set", "/domain/devices/disk", "device=cdrom"),
    ("HV028", "grant", "set", "/domain/devices/disk/target", "removable=on"),
    ("HV030", "deny", "add", "/domain/devices", VNC.format(" websocket='5700'", "<listen type='none'/>")),
    ("HV030", "deny", "add", "/domain/devices", VNC.format(" listen='0.0.0.0'", "")),
    ("HV030", "deny", "add", "/domain/devices", VNC.format("", "<listen type='address' address='::'/>")),
    ("HV030", "deny", "add", "/domain/devices", VNC.format("", "<listen type='network' network='n'/>")),
    ("HV030", "deny", "add", "/domain/devices", "<graphics type='sdl'/>"),
    ("HV030", "warn", "add", "/domain/devices", VNC.format("", "<listen type='address' address='127.0.0.1'/>")),
    ("HV031", "deny", "add", "/domain/devices", "<graphics type='spice'><listen type='none'/></graphics>"),
    ("HV031", "deny", "add", "/domain/devices", PTY.format("spicevmc", "com.redhat.spice.0")),
    ("HV032", "deny", "add", "/domain/devices", "<graphics type='spice'><clipboard copypaste='no'/></graphics>"),
    ("HV032", "deny", "add", "/domain/devices", PTY.format("spiceport", "org.spice-space.webdav.0")),
    ("HV033", "deny", "add", "/domain/devices", SPICE.format("", "<gl enable='yes'/>")),
    ("HV033", "deny", "add", "/domain/devices", "<video><model type='qxl'/></video>"),
    ("HV033", "deny", "add", "/domain/devices", VIDEO),
    ("HV034", "deny", "add", "/domain/devices", SPICE.format(" passwd='secret'", "")),
    ("HV035", "grant", "add", "/domain/devices", "<sound model='ich9'/>"),
    ("HV035", "grant", "add", "/domain/devices", "<audio id='1' type='alsa'/>"),
    ("HV040", "deny", "add", "/domain/devices", "<redirdev bus='usb' type='spicevmc'/>"),
    ("HV040", "deny", "add", "/domain/devices", "<redirfilter><usbdev allow='yes'/></redirfilter>"),
    ("HV041", "deny", "add", "/domain/devices", USB.format("<vendor id='0x1'/>")),
    ("HV041", "grant", "add", "/domain/devices", USB.format("<address bus='1' device='2'/>")),
    ("HV042", "deny", "add", "/domain/devices", "<hostdev type='pci' managed='no'/>"),
    ("HV042", "deny", "add", "/domain/devices", "<hostdev type='pci' managed='yes'><driver name='kvm'/></hostdev>"),
    ("HV042", "deny", "add", "/domain/devices", "<hostdev type='pci' managed='yes'><rom file='/r'/></hostdev>"),
    ("HV042", "grant", "add", "/domain/devices", "<hostdev type='pci' managed='yes'/>"),
    ("HV043", "deny", "add", "/domain/devices", "<hostdev mode='subsystem' type='mdev'/>"),
    ("HV043", "deny", "add", "/domain/devices", "<hostdev mode='capabilities' type='pci' managed='yes'/>"),
    ("HV043", "deny", "add", "/domain/devices", "<smartcard mode='host'/>"),
    ("HV043", "deny", "add", "/domain/devices", "<input type='evdev'/>"),
    ("HV043", "deny", "set", "/domain/devices/tpm/backend", "type=passthrough"),
    ("HV043", "deny", "add", "/domain/devices", "<lease/>"),
    ("HV044", "deny", "add", "/domain/devices", "<hub type='usb'/>"),
    ("HV044", "deny", "set", "/domain/devices/disk/target", "bus=usb"),
    ("HV044", "grant", "set", "/domain/devices/controller", "model=qemu-xhci"),
    ("HV044", "grant", "drop", "/domain/devices/controller", ""),
    ("HV050", "deny", "add", "/domain/devices", DIRECT.format("passthrough")),
    ("HV050", "grant", "add", "/domain/devices", DIRECT.format("bridge")),
    ("HV051", "deny", "add", "/domain/devices", "<interface type='user'/>"),
    ("HV051", "grant", "add", "/domain/devices", NET.format("").replace("network'>", "bridge'>", 1)),
    ("HV052", "deny", "add", "/domain/devices", NET.format("").replace("isolated='yes'", "isolated='no'")),
    ("HV052", "grant", "add", "/domain/devices", PEERS),
    ("HV053", "deny", "add", "/domain/devices", "<interface type='network'><port isolated='yes'/></interface>"),
    ("HV053", "deny", "add", "/domain/devices", NET.format("").replace("clean-traffic", "allow-arp")),
    ("HV054", "deny", "add", "/domain/devices", NET.format("<script path='/tmp/x'/>")),
    ("HV054", "deny", "add", "/domain/devices", NET.format("<backend tap='/dev/x'/>")),
    ("HV054", "deny", "add", "/domain/devices", TRUSTING),
    ("HV060", "deny", "set", "/domain/devices/serial", "type=tcp"),
    ("HV060", "deny", "add", "/domain/devices", "<parallel type='file'><source path='/etc/x'/></parallel>"),
    ("HV061", "grant", "add", "/domain/devices", PTY.format("unix", "org.qemu.guest_agent.0")),
    ("HV062", "deny", "add", "/domain/devices", "<vsock model='virtio'/>"),
    ("HV063", "deny", "text", "/domain/on_crash", "coredump-destroy"),
    ("HV063", "deny", "add", "/domain/devices", "<watchdog model='itco' action='dump'/>"),
    ("HV063", "deny", "set", "/domain/memory", "dumpCore=on"),
    ("HV063", "warn", "unset", "/domain/memory", "dumpCore"),
    ("HV063", "warn", "add", "/domain/devices", "<panic model='isa'/>"),
    ("HV070", "deny", "drop", "/domain/devices/rng", ""),
    ("HV070", "deny", "drop", "/domain/devices/rng/rate", ""),
    ("HV070", "deny", "set", "/domain/devices/rng/backend", "model=egd"),
    ("HV070", "deny", "text", "/domain/devices/rng/backend", "/dev/zero"),
    ("HV071", "deny", "unset", "/domain/devices/tpm/backend", "persistent_state"),
    ("HV071", "deny", "drop", "/domain/devices/tpm/backend/encryption", ""),
    ("HV071", "deny", "set", "/domain/devices/tpm/backend", "version=1.2"),
    ("HV071", "deny", "add", "/domain/devices/tpm/backend", "<active_pcr_banks><sha384/></active_pcr_banks>"),
    ("HV071", "warn", "drop", "/domain/devices/tpm", ""),
    ("HV072", "deny", "set", "/domain/devices/memballoon", "autodeflate=on"),
    ("HV072", "warn", "set", "/domain/devices/memballoon", "model=virtio"),
    ("HV072", "warn", "drop", "/domain/devices/memballoon", ""),
    ("HV073", "deny", "drop", "/domain/memoryBacking/nosharepages", ""),
    ("HV074", "deny", "add", "/domain/memoryBacking", "<access mode='shared'/>"),
    ("HV074", "deny", "add", "/domain/memoryBacking", "<source type='file'/>"),
    ("HV074", "deny", "add", "/domain/cpu", "<numa><cell id='0' memAccess='shared'/></numa>"),
    ("HV074", "deny", "add", "/domain/devices", "<memory model='nvdimm'/>"),
    ("HV075", "warn", "add", "/domain/memoryBacking", "<hugepages/>"),
    ("HV080", "deny", "drop", "/domain/cpu", ""),
    ("HV080", "deny", "set", "/domain/cpu", "mode=host-passthrough"),
    ("HV080", "deny", "drop", "/domain/cpu/feature[@name='vmx']", ""),
    ("HV080", "deny", "set", "/domain/cpu/feature[@name='svm']", "policy=require"),
    ("HV081", "warn", "set", "/domain/cpu", "mode=custom"),
    ("HV083", "warn", "drop", "/domain/devices/disk/readonly", ""),
    ("HV083", "warn", "add", "/domain/devices", NET.format("").replace(LIMIT, "")),
    ("HV082", "deny", "set", "/domain/features/vmport", "state=on"),
    ("HV082", "deny", "drop", "/domain/features/pmu", ""),
    ("HV082", "deny", "add", "/domain/features", "<hyperv mode='passthrough'/>"),
    ("HV082", "warn", "add", "/domain/features", "<pvspinlock state='on'/>"),
    ("HV084", "deny", "add", "/domain/devices", NET.format("").replace("'virtio'", "'e1000'")),
    ("HV084", "deny", "set", "/domain/devices/rng", "model=virtio-transitional"),
    ("HV084", "deny", "add", "/domain/devices", "<controller type='ide' index='0'/>"),
    ("HV084", "deny", "set", "/domain/devices/controller", "model=piix3-uhci"),
    ("HV084", "deny", "add", "/domain/devices", "<controller type='scsi' index='0' model='lsilogic'/>"),
    ("HV084", "deny", "set", "/domain/devices/disk/target", "bus=ide"),
    ("HV084", "deny", "set", "/domain/devices/disk/target", "bus=sata"),
    ("HV084", "deny", "add", "/domain/devices", "<video><model type='cirrus'/></video>"),
]  # fmt: skip


def spoil(domain: etree._Element, action: str, place: str, value: str) -> bytes:
    """Do it."""
    (element,) = domain.xpath(place)
    if action == "add":
        element.append(etree.fromstring(value))
    elif action == "drop":
        element.getparent().remove(element)
    elif action == "text":
        element.text = value
    elif action == "unset":
        del element.attrib[value]
    else:
        element.set(*value.split("=", 1))
    return etree.tostring(domain)
