# SPDX-License-Identifier: Apache-2.0
"""Which elements and attributes of domain XML somebody has looked at: all others are refused.

Being listed does not mean being safe: ``hypervisor.rules`` judges what is listed. Names are libvirt's (formatdomain).
"""

from __future__ import annotations

from lxml import etree

# A rule denies the whole element, or (metadata) nothing reads it: what is in it makes no difference.
_CLOSED = frozenset(
    {
        "domain/metadata", "domain/devices/filesystem", "domain/devices/shmem", "domain/devices/redirdev",
        "domain/devices/redirfilter", "domain/devices/smartcard", "domain/devices/lease", "domain/devices/hub",
        "domain/devices/vsock", "domain/devices/disk/mirror", "domain/os/acpi",
    }
)  # fmt: skip

_MACHINE = {
    "": "type id",
    "name": "", "uuid": "", "title": "", "description": "",
    "memory": "unit dumpCore", "currentMemory": "unit",
    "memoryBacking": "", "memoryBacking/nosharepages": "", "memoryBacking/locked": "",
    "memoryBacking/hugepages": "", "memoryBacking/hugepages/page": "size unit nodeset",
    "memoryBacking/source": "type", "memoryBacking/access": "mode", "memoryBacking/allocation": "mode",
    "memtune": "", "memtune/hard_limit": "unit", "memtune/soft_limit": "unit", "memtune/swap_hard_limit": "unit",
    "vcpu": "placement cpuset current", "vcpus": "", "vcpus/vcpu": "id enabled hotpluggable order",
    "iothreads": "",
    "cputune": "", "cputune/shares": "", "cputune/period": "", "cputune/quota": "", "cputune/global_period": "",
    "cputune/global_quota": "", "cputune/emulator_period": "", "cputune/emulator_quota": "",
    "cputune/vcpupin": "vcpu cpuset", "cputune/emulatorpin": "cpuset",
    "blkiotune": "", "blkiotune/weight": "",
    "resource": "", "resource/partition": "",
    "sysinfo": "type", "sysinfo/entry": "name file",
    "os": "firmware", "os/type": "arch machine", "os/firmware": "", "os/firmware/feature": "enabled name",
    "os/loader": "readonly secure type stateless", "os/nvram": "template type", "os/nvram/source": "file",
    "os/kernel": "", "os/initrd": "", "os/cmdline": "", "os/dtb": "", "os/boot": "dev",
    "os/bootmenu": "enable timeout", "os/bios": "useserial rebootTimeout", "os/smbios": "mode",
    "features": "", "features/acpi": "", "features/apic": "eoi", "features/pae": "", "features/smm": "state",
    "features/vmport": "state", "features/pmu": "state", "features/pvspinlock": "state", "features/hyperv": "mode",
    "features/ioapic": "driver", "features/vmcoreinfo": "state", "features/ps2": "state",
    "cpu": "mode match check migratable", "cpu/model": "fallback", "cpu/vendor": "", "cpu/feature": "policy name",
    "cpu/topology": "sockets dies clusters cores threads", "cpu/cache": "level mode", "cpu/maxphysaddr": "mode bits",
    "cpu/numa": "", "cpu/numa/cell": "id cpus memory unit memAccess",
    "clock": "offset", "clock/timer": "name tickpolicy present",
    "on_poweroff": "", "on_reboot": "", "on_crash": "",
    "pm": "", "pm/suspend-to-mem": "enabled", "pm/suspend-to-disk": "enabled",
    "seclabel": "type model relabel", "seclabel/label": "", "seclabel/imagelabel": "",
    "genid": "",
}  # fmt: skip

_LINE = {
    "": "type tty", "source": "path mode host service channel", "log": "file append", "protocol": "type",
    "target": "type port name state", "target/model": "name",
}  # fmt: skip
_SOURCE = {
    "": "file dev dir protocol name pool volume index startupPolicy", "seclabel": "model relabel",
    "host": "name port transport", "reservations": "managed", "dataStore": "type",
}  # fmt: skip
_FORMAT = {"": "type index"}
_DEVICES = {
    "emulator": "",
    "disk": "type device rawio sgio snapshot", "disk/driver": "name type cache io discard detect_zeroes copy_on_read "
    "error_policy rerror_policy queues iothread", "disk/target": "dev bus removable", "disk/readonly": "",
    "disk/shareable": "", "disk/transient": "", "disk/serial": "", "disk/boot": "order", "disk/iotune": "",
    "disk/iotune/total_bytes_sec": "", "disk/iotune/read_bytes_sec": "", "disk/iotune/write_bytes_sec": "",
    "disk/iotune/total_iops_sec": "", "disk/iotune/read_iops_sec": "", "disk/iotune/write_iops_sec": "",
    "controller": "type index model ports", "controller/model": "name", "controller/target": "chassis port",
    "interface": "type managed trustGuestRxFilters", "interface/mac": "address",
    "interface/source": "network bridge dev mode portid", "interface/source/address": "type domain bus slot function",
    "interface/model": "type", "interface/target": "dev", "interface/port": "isolated", "interface/filterref": "filter",
    "interface/filterref/parameter": "name value", "interface/script": "path", "interface/downscript": "path",
    "interface/backend": "tap vhost type", "interface/boot": "order", "interface/mtu": "size",
    "interface/link": "state", "interface/bandwidth": "", "interface/bandwidth/inbound": "average peak burst floor",
    "interface/bandwidth/outbound": "average peak burst",
    "graphics": "type port autoport tlsPort websocket listen passwd passwdValidTo socket keymap defaultMode",
    "graphics/listen": "type address network socket", "graphics/clipboard": "copypaste",
    "graphics/filetransfer": "enable", "graphics/gl": "enable rendernode", "graphics/image": "compression",
    "graphics/mouse": "mode", "graphics/streaming": "mode",
    "video": "", "video/model": "type heads primary vram ram vgamem blob",
    "video/model/acceleration": "accel2d accel3d", "video/model/resolution": "x y",
    "sound": "model", "audio": "id type", "input": "type bus model", "input/source": "evdev dev grab repeat",
    "hostdev": "mode type managed", "hostdev/driver": "name", "hostdev/rom": "file bar enabled",
    "hostdev/source": "startupPolicy", "hostdev/source/address": "type domain bus slot function device uuid",
    "hostdev/source/vendor": "id", "hostdev/source/product": "id",
    "tpm": "model", "tpm/backend": "type version persistent_state", "tpm/backend/encryption": "secret",
    "tpm/backend/active_pcr_banks": "", "tpm/backend/active_pcr_banks/sha256": "",
    "tpm/backend/active_pcr_banks/sha384": "", "tpm/backend/active_pcr_banks/sha512": "", "tpm/backend/device": "path",
    "rng": "model", "rng/rate": "bytes period", "rng/backend": "model type", "rng/backend/source": "mode host service",
    "memballoon": "model autodeflate freePageReporting", "memballoon/stats": "period",
    "watchdog": "model action", "panic": "model", "memory": "model access discard",
}  # fmt: skip
# Added to every device by libvirt itself.
_EVERYWHERE = {
    "alias": "name", "address": "type domain bus slot function multifunction controller target unit port iobase",
}  # fmt: skip


def _table() -> dict[str, frozenset[str]]:
    table = {f"domain/{path}".rstrip("/"): attributes for path, attributes in _MACHINE.items()}
    devices = dict(_DEVICES)
    for line in ("serial", "console", "parallel", "channel"):
        devices |= _below(line, _LINE)
    devices |= _below("disk/source", _SOURCE | {"encryption": "format engine", "encryption/secret": "type uuid"})
    # Three levels are more than anybody needs, and a fourth is refused.
    for depth in range(1, 4):
        layer = "disk" + "/backingStore" * depth
        devices |= _below(layer, _FORMAT | {"format": "type"}) | _below(f"{layer}/source", _SOURCE)
    for device in {path.partition("/")[0] for path in devices}:
        devices |= _below(device, _EVERYWHERE)
    table |= {"domain/devices": ""} | {f"domain/devices/{path}": attributes for path, attributes in devices.items()}
    table |= dict.fromkeys(_CLOSED, "*")
    return {path: frozenset(attributes.split()) for path, attributes in table.items()}


def _below(prefix: str, table: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}/{path}".rstrip("/"): attributes for path, attributes in table.items()}


KNOWN = _table()


def unknown(element: etree._Element, path: str = "domain") -> list[etree._Element]:
    """The elements at or under ``element`` that are not known or have an attribute that is not."""
    if path in _CLOSED:
        return []
    found = [] if path in KNOWN and {str(name) for name in element.attrib} <= KNOWN[path] else [element]
    if path not in KNOWN:
        return found
    for child in element:
        found += unknown(child, f"{path}/{child.tag}")
    return found
