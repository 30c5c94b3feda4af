# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is wrong with a host, one thing at a time, and says what to do about each."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import Any

import pytest

from agent.doctor.advice import LEVELS, Advice, sort
from agent.doctor.facts import VULNERABILITIES, Facts, Place
from agent.doctor.host_checks import host_checks
from agent.doctor.libvirt_checks import DAEMON_SETTINGS, DAEMONS, QEMU, SETTINGS, libvirt_checks

QEMU_CONF = """
security_require_confined = 1
mac_filter = 1
lock_manager = "lockd"
max_core = 0
"""
LIBVIRTD_CONF = 'access_drivers = [ "polkit" ]\naudit_level = 2\naudit_logging = 1\n'
ROOTS = Place(mode=stat.S_IFDIR | 0o755, uid=0, gid=0)
GOOD = Facts(
    files={
        "/etc/group": "root:x:0:\nkvm:x:104:libvirt-qemu\nlibvirt:x:105:\ntss:x:106:\n",
        QEMU: QEMU_CONF,
        DAEMONS[0]: LIBVIRTD_CONF,
        "/proc/cmdline": "root=/dev/vda quiet",
        "/proc/sys/kernel/core_pattern": "|/bin/false\n",
        "/proc/sys/kernel/kexec_load_disabled": "1\n",
        "/sys/devices/system/cpu/smt/active": "0\n",
        "/sys/kernel/mm/ksm/run": "0\n",
        "/sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        "/sys/module/kvm_intel/parameters/nested": "N\n",
        f"{VULNERABILITIES}/mds": "Not affected\n",
        f"{VULNERABILITIES}/meltdown": "Mitigation: PTI\n",
    },
    places={
        "/dev/kvm": Place(mode=stat.S_IFCHR | 0o660, uid=0, gid=104),
        "/dev/tpmrm0": Place(mode=stat.S_IFCHR | 0o600, uid=0, gid=0),
        "/etc/libvirt/hooks/qemu": replace(ROOTS, mode=stat.S_IFREG | 0o755),
        "/etc/vmgate": ROOTS,
        "/var/lib/vmgate": ROOTS,
    },
    folders={VULNERABILITIES: ("mds", "meltdown"), "/sys/class/iommu": ("dmar0",)},
    swaps={"/dev/dm-1": True},
    secure_boot=True,
    free=0.5,
    store=("ext4", "on"),
)


def examine(facts: Facts) -> tuple[Advice, ...]:
    return sort((*host_checks(facts), *libvirt_checks(facts)))


def wrong(facts: Facts) -> set[tuple[str, str]]:
    return {(advice.check, advice.level) for advice in examine(facts) if advice.level != "pass"}


def change(facts: Facts, what: str, key: str, value: Any) -> Facts:
    """One fact set, or gone."""
    table = {name: old for name, old in getattr(facts, what).items() if name != key}
    return replace(facts, **{what: table if value is None else {**table, key: value}})


def test_networks_with_dnsmasq_are_fine() -> None:
    file = replace(ROOTS, mode=stat.S_IFREG | 0o644)
    both = change(GOOD, "places", "/var/lib/vmgate/networks.json", file)
    assert wrong(change(both, "places", "/usr/sbin/dnsmasq", file)) == set()


def test_a_host_that_is_as_it_should_be_gets_no_advice() -> None:
    advice = examine(GOOD)
    assert wrong(GOOD) == set()
    assert len(advice) >= 15
    assert all(one.found and one.sfr and not one.fix for one in advice)


@pytest.mark.parametrize(
    ("what", "key", "value", "check", "level"),
    [
        ("places", "/dev/kvm", None, "kvm", "fail"),
        ("places", "/dev/kvm", Place(mode=stat.S_IFCHR | 0o666, uid=0, gid=0), "kvm", "warn"),
        ("files", "/sys/module/apparmor/parameters/enabled", None, "labels", "fail"),
        ("files", "/sys/module/apparmor/parameters/enabled", "N\n", "labels", "fail"),
        ("places", "/etc/libvirt/hooks/qemu", None, "vmgate/hook", "fail"),
        ("places", "/etc/libvirt/hooks/qemu", Place(mode=stat.S_IFLNK | 0o755, uid=0, gid=0), "vmgate/hook", "fail"),
        ("places", "/etc/vmgate", Place(mode=stat.S_IFDIR | 0o775, uid=0, gid=50), "vmgate/settings", "fail"),
        ("places", "/var/lib/vmgate", Place(mode=stat.S_IFDIR | 0o755, uid=1000, gid=0), "vmgate/state", "fail"),
        ("folders", "/etc/libvirt/hooks/qemu.d", ("x",), "hooks", "note"),
        ("folders", "/etc/libvirt/qemu/autostart", ("x.xml",), "autostart", "note"),
        ("places", "/dev/tpmrm0", None, "tpm", "warn"),
        ("places", "/dev/tpmrm0", Place(mode=stat.S_IFCHR | 0o660, uid=105, gid=105), "tpm", "warn"),
        ("places", "/dev/tpm0", Place(mode=stat.S_IFCHR | 0o660, uid=0, gid=105), "tpm", "warn"),
        ("files", "/proc/sys/kernel/kexec_load_disabled", "0\n", "kexec", "note"),
        ("files", "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "lockdown", "note"),
        ("files", "/etc/group", None, "groups", "warn"),
        ("files", "/etc/group", "libvirt:x:1:ann,bob\n", "group-libvirt", "warn"),
        ("files", "/etc/group", "kvm:x:1:libvirt-qemu,ann\n", "group-kvm", "warn"),
        ("files", "/etc/group", "tss:x:1:ann\n", "group-tss", "warn"),
        ("files", f"{VULNERABILITIES}/mds", "Vulnerable: no microcode\n", "mitigations", "fail"),
        ("files", f"{VULNERABILITIES}/mds", None, "mitigations", "fail"),
        ("folders", VULNERABILITIES, None, "mitigations", "warn"),
        ("files", "/proc/cmdline", "quiet mitigations=off", "mitigations", "fail"),
        ("files", "/sys/devices/system/cpu/smt/active", "1\n", "smt", "warn"),
        ("files", "/sys/devices/system/cpu/smt/active", None, "smt", "warn"),
        ("files", "/sys/kernel/mm/ksm/run", "1\n", "ksm", "warn"),
        ("files", "/sys/module/kvm_amd/parameters/nested", "1\n", "nested", "warn"),
        ("folders", "/sys/class/iommu", (), "iommu", "note"),
        ("places", "/var/lib/vmgate/networks.json", replace(ROOTS, mode=stat.S_IFREG | 0o644), "networks", "fail"),
        ("swaps", "/dev/vda2", False, "swap", "warn"),
        ("files", "/proc/sys/kernel/core_pattern", "core\n", "core-dumps", "note"),
        ("files", QEMU, None, "qemu.conf", "fail"),
        ("files", QEMU, QEMU_CONF + "user = 1\nuser = 2\n", "qemu.conf", "fail"),
        ("files", DAEMONS[0], None, "libvirt", "fail"),
        ("files", DAEMONS[0], LIBVIRTD_CONF + "listen_tcp = 1\n", "libvirtd.conf/listen_tcp", "fail"),
        ("files", DAEMONS[1], "listen_tcp = 1\n" + LIBVIRTD_CONF, "virtqemud.conf/listen_tcp", "fail"),
    ],
)
def test_one_thing_that_is_wrong_is_found(what: str, key: str, value: Any, check: str, level: str) -> None:
    spoiled = change(GOOD, what, key, value)
    assert wrong(spoiled) == {(check, level)}
    (advice,) = [one for one in examine(spoiled) if one.level != "pass"]
    assert advice.why
    assert advice.fix
    assert advice.sfr


@pytest.mark.parametrize(
    ("facts", "check"),
    [
        (replace(GOOD, secure_boot=False), "secure-boot"),
        (replace(GOOD, secure_boot=None), "secure-boot"),
        (replace(GOOD, free=0.05), "space"),
    ],
)
def test_what_is_no_file_is_found(facts: Facts, check: str) -> None:
    assert wrong(facts) == {(check, "warn")}


@pytest.mark.parametrize(
    ("store", "fix"),
    [
        (("ext4", "missing"), "tune2fs -O verity"),
        (("ext4", "off"), "update apply"),
        (("xfs", "missing"), "use ext4 or btrfs"),
        (("btrfs", "missing"), "Linux 5.15"),
    ],
)
def test_how_to_get_fs_verity_is_told(store: tuple[str, str], fix: str) -> None:
    (advice,) = [one for one in examine(replace(GOOD, store=store)) if one.level != "pass"]
    assert (advice.check, advice.level) == ("fs-verity", "note")
    assert fix in advice.fix


BAD = {
    "user": '"root"', "group": '"+0"', "swtpm_user": '"root"', "security_driver": '[ "none" ]',
    "security_default_confined": "0", "security_require_confined": "0", "dynamic_ownership": "0",
    "clear_emulator_capabilities": "0", "seccomp_sandbox": "0", "namespaces": "[ ]", "relaxed_acs_check": "1",
    "vnc_listen": '"0.0.0.0"', "spice_listen": '"::"', "mac_filter": "0", "lock_manager": '"nop"',
    "stdio_handler": '"file"', "dump_guest_core": "1", "max_core": '"unlimited"', "capability_filters": '[ "x" ]',
    "allow_disk_format_probing": "1", "access_drivers": '[ "none" ]', "listen_tcp": "1", "auth_tcp": '"none"',
    "auth_tls": '"none"', "tls_no_verify_certificate": "1", "auth_unix_rw": '"none"', "unix_sock_rw_perms": '"0777"',
    "audit_level": "1", "audit_logging": "0",
}  # fmt: skip


@pytest.mark.parametrize("setting", [*SETTINGS, *DAEMON_SETTINGS], ids=lambda setting: setting.name)
def test_each_setting_of_libvirt_is_judged(setting: Any) -> None:
    path, text = (QEMU, QEMU_CONF) if setting in SETTINGS else (DAEMONS[0], LIBVIRTD_CONF)
    kept = "".join(line + "\n" for line in text.splitlines() if not line.startswith(setting.name))
    spoiled = change(GOOD, "files", path, f"{kept}{setting.name} = {BAD[setting.name]}\n")
    name = f"{path.rpartition('/')[2]}/{setting.name}"
    assert wrong(spoiled) == {(name, setting.level)}
    # What it says to write makes it go away.
    line = setting.line if not setting.line.startswith("#") else ""
    assert wrong(change(GOOD, "files", path, f"{kept}{line}\n")) == set()


def test_the_worst_comes_first() -> None:
    bare = examine(Facts())
    assert [LEVELS.index(one.level) for one in bare] == sorted(LEVELS.index(one.level) for one in bare)
    assert bare[0].level == "fail"
    # A host of which nothing is known passes in nothing but what is good by not being there.
    assert {one.check for one in bare if one.level == "pass"} <= {"ksm", "swap", "core-dumps"}
