# SPDX-License-Identifier: Apache-2.0
"""What libvirt's configuration says about keeping VMs apart and people out. Pure; it reads no file itself.

Sources: comments of qemu.conf and libvirtd.conf as libvirt 9 ships them; docs/drvqemu.rst and aclpolkit.rst of libvirt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agent.doctor.advice import Advice
from agent.doctor.facts import Facts
from documents.errors import VmgateError
from hypervisor.virt_conf import Value, parse_configuration

QEMU: Final = "/etc/libvirt/qemu.conf"
DAEMONS: Final = ("/etc/libvirt/libvirtd.conf", "/etc/libvirt/virtqemud.conf")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

Good = Callable[[Value | None], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one setting should be.

    Attributes:
        name: of the setting.
        good: tells whether a value is; None stands for not set.
        level: of the advice where it is not.
        why: what could happen.
        line: what to write.
    """

    name: str
    good: Good
    level: str
    why: str
    line: str


def _not(*bad: Value) -> Good:
    return lambda value: value not in bad


def _is(*good: Value | None) -> Good:
    return lambda value: value in good


ROOT: Final = ("root", "0", "+0", 0)
SETTINGS: Final = (
    Setting(name="user", good=_not(*ROOT), level="fail", line='user = "libvirt-qemu"',
        why="A guest that breaks out of QEMU would be root."),
    Setting(name="group", good=_not(*ROOT), level="fail", line='group = "libvirt-qemu"',
        why="QEMU could read what only root's group may read."),
    Setting(name="swtpm_user", good=_not(*ROOT), level="fail", line='swtpm_user = "tss"',
        why="A guest that breaks out of its TPM would be root."),
    Setting(name="security_driver", good=lambda v: v != "none" and not (isinstance(v, tuple) and "none" in v),
        level="fail", line='security_driver = "apparmor"', why="VMs would run without a label that keeps them apart."),
    Setting(name="security_default_confined", good=_is(None, 1), level="fail", line="security_default_confined = 1",
        why="VMs would run without a label that keeps them apart."),
    Setting(name="security_require_confined", good=_is(1), level="warn", line="security_require_confined = 1",
        why="A VM's definition may ask to run without a label."),
    Setting(name="dynamic_ownership", good=_is(None, 1), level="warn", line="dynamic_ownership = 1",
        why="Files keep owners that several VMs may share."),
    Setting(name="clear_emulator_capabilities", good=_is(None, 1), level="fail", line="clear_emulator_capabilities = 1",
        why="QEMU would keep rights that it does not need."),
    Setting(name="seccomp_sandbox", good=_not(0), level="fail", line="seccomp_sandbox = 1",
        why="A guest that breaks out of QEMU could use every system call."),
    Setting(name="namespaces", good=lambda v: v is None or "mount" in (v if isinstance(v, tuple) else ()),
        level="fail", line='namespaces = [ "mount" ]', why="QEMU would see every device of the host."),
    Setting(name="relaxed_acs_check", good=_is(None, 0), level="fail", line="relaxed_acs_check = 0",
        why="A device that is not isolated could be given to a VM."),
    Setting(name="vnc_listen", good=_is(None, *LOOPBACK), level="fail", line='vnc_listen = "127.0.0.1"',
        why="Screens of VMs would be open to the network."),
    Setting(name="spice_listen", good=_is(None, *LOOPBACK), level="fail", line='spice_listen = "127.0.0.1"',
        why="Screens of VMs would be open to the network."),
    Setting(name="mac_filter", good=_is(1), level="warn", line="mac_filter = 1",
        why="A guest could send under another's hardware address where a network has no filter."),
    Setting(name="lock_manager", good=_is("lockd", "sanlock"), level="warn", line='lock_manager = "lockd"',
        why="Two VMs could write one disk at the same time."),
    Setting(name="stdio_handler", good=_is(None, "logd"), level="fail", line='stdio_handler = "logd"',
        why="A guest could fill the host's disk through its log."),
    Setting(name="dump_guest_core", good=_is(None, 0), level="fail", line="dump_guest_core = 0",
        why="When QEMU crashes, the guest's memory and keys would be written to disk."),
    Setting(name="max_core", good=_is(0), level="warn", line="max_core = 0",
        why="When QEMU crashes, its memory may be written to disk."),
    Setting(name="capability_filters", good=_is(None, ()), level="warn", line="# capability_filters",
        why="It is for developers: libvirt would think QEMU to be less than it is."),
    Setting(name="allow_disk_format_probing", good=_is(None, 0), level="fail", line="allow_disk_format_probing = 0",
        why="A guest could make libvirt take its disk for one that names files of the host."),
)  # fmt: skip
"""What qemu.conf should say."""

DAEMON_SETTINGS: Final = (
    Setting(name="access_drivers", good=lambda v: "polkit" in (v if isinstance(v, tuple) else ()), level="warn",
        line='access_drivers = [ "polkit" ]', why="Whoever may use libvirt may use all of it, past vmgate's roles."),
    Setting(name="listen_tcp", good=_is(None, 0), level="fail", line="listen_tcp = 0",
        why="libvirt would answer on the network without encryption."),
    Setting(name="auth_tcp", good=_not("none"), level="fail", line='auth_tcp = "sasl"',
        why="Anybody on the network could use libvirt."),
    Setting(name="auth_tls", good=_not("none"), level="warn", line='auth_tls = "sasl"',
        why="A certificate alone would let somebody use libvirt from the network, past vmgate's roles."),
    Setting(name="tls_no_verify_certificate", good=_is(None, 0), level="fail", line="tls_no_verify_certificate = 0",
        why="Anybody on the network could use libvirt."),
    Setting(name="auth_unix_rw", good=_is(None, "polkit"), level="warn", line='auth_unix_rw = "polkit"',
        why="Whoever can open the socket may use libvirt without being asked who he is."),
    Setting(name="unix_sock_rw_perms", good=_is(None, "0700", "0770", "0600", "0660"), level="fail",
        line='unix_sock_rw_perms = "0770"', why="Every user of the host could use libvirt."),
    Setting(name="audit_level", good=_is(2), level="warn", line="audit_level = 2",
        why="libvirt's own events would be missing from the kernel's audit trail."),
    Setting(name="audit_logging", good=_is(1), level="note", line="audit_logging = 1",
        why="Without the kernel's audit, libvirt's events are in no log."),
)  # fmt: skip
"""What libvirtd.conf or virtqemud.conf should say."""


def libvirt_checks(facts: Facts) -> Iterator[Advice]:
    """What libvirt's files say."""
    yield from _file(facts, QEMU, SETTINGS, "FDP_VMS_EXT.1, FPT_VIV_EXT.1")
    present = [path for path in DAEMONS if path in facts.files]
    if not present:
        yield Advice(
            check="libvirt", level="fail", found=f"neither {' nor '.join(DAEMONS)}", sfr="FMT_MOF_EXT.1",
            why="libvirt is not installed, or its configuration cannot be read.",
            fix="install libvirt-daemon-system, and run this as root",
        )  # fmt: skip
    for path in present:
        yield from _file(facts, path, DAEMON_SETTINGS, "FMT_MOF_EXT.1, FTP_TRP.1")


def _file(facts: Facts, path: str, settings: tuple[Setting, ...], sfr: str) -> Iterator[Advice]:
    name = path.rpartition("/")[2]
    if path not in facts.files:
        if path == QEMU:
            yield _unread(name, "it is not there, or not readable", path, sfr)
        return
    try:
        found = parse_configuration(facts.files[path].encode())
    except VmgateError as error:
        yield _unread(name, error.cause, path, sfr)
        return
    wrong = [setting for setting in settings if not setting.good(found.get(setting.name))]
    for setting in wrong:
        yield Advice(
            check=f"{name}/{setting.name}", level=setting.level, found=_told(found, setting.name), sfr=sfr,
            why=setting.why, fix=f"write `{setting.line}` into {path} and restart the daemon",
        )  # fmt: skip
    if not wrong:
        yield Advice(check=name, level="pass", found=f"{len(settings)} settings as they should be", sfr=sfr)


def _unread(name: str, cause: str, path: str, sfr: str) -> Advice:
    return Advice(
        check=name, level="fail", found=cause, sfr=sfr, why="What keeps VMs apart could not be checked.",
        fix=f"correct {path}, and run this as root",
    )  # fmt: skip


def _told(found: Mapping[str, Value], name: str) -> str:
    if name not in found:
        return "not set"
    value = found[name]
    return f"{name} = {list(value) if isinstance(value, tuple) else value!r}"
