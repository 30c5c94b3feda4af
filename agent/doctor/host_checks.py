# SPDX-License-Identifier: Apache-2.0
"""What the kernel, the devices and the people of a host are like, for who runs VMs on it. Pure.

Sources: the kernel's Documentation/admin-guide/hw-vuln, mm/ksm.rst, sysctl/kernel.rst; libvirt's docs/drvqemu.rst. This
module does not look at libvirt's files (``libvirt_checks`` does).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import Final

from agent.doctor.advice import Advice
from agent.doctor.facts import VULNERABILITIES, Facts, Place

VMM_USERS: Final = frozenset({"libvirt-qemu", "qemu"})
FREE: Final = 0.1


def host_checks(facts: Facts) -> Iterator[Advice]:
    """All of them, in their order."""
    for check in CHECKS:
        yield from check(facts)


def _kvm(facts: Facts) -> Iterator[Advice]:
    place = facts.places.get("/dev/kvm")
    if place is None:
        yield Advice(
            check="kvm", level="fail", found="no /dev/kvm", sfr="FPT_HAS_EXT.1",
            why="VMs would be emulated, which is slow and isolates nothing.",
            fix="switch virtualization on in the firmware setup, then `modprobe kvm_intel` or `modprobe kvm_amd`",
        )  # fmt: skip
    elif place.mode & stat.S_IRWXO:
        yield Advice(
            check="kvm", level="warn", found=f"/dev/kvm has mode {stat.S_IMODE(place.mode):04o}", sfr="FPT_VIV_EXT.1",
            why="Every user of the host can run VMs that pass no gate.",
            fix="""echo 'KERNEL=="kvm", MODE="0660", GROUP="kvm"' >/etc/udev/rules.d/99-kvm.rules; udevadm trigger""",
        )  # fmt: skip
    else:
        yield Advice(check="kvm", level="pass", found="/dev/kvm is for its group only", sfr="FPT_HAS_EXT.1")


def _people(facts: Facts) -> Iterator[Advice]:
    """Members of groups that may do what only vmgate should."""
    if "/etc/group" not in facts.files:
        yield Advice(
            check="groups", level="warn", found="/etc/group is not readable", sfr="FMT_SMR.2",
            why="Who may run VMs past vmgate is not known.", fix="run this as root",
        )  # fmt: skip
        return
    groups = {line.split(":")[0]: line for line in facts.files.get("/etc/group", "").splitlines()}
    for group, why in (
        ("kvm", "They can run VMs that pass no gate."),
        ("libvirt", "They can use libvirt past vmgate's roles."),
        ("tss", "They can use the TPM: extend PCRs that vmgate needs, and keep it busy."),
    ):
        members = [name for name in groups.get(group, ":::").split(":")[-1].strip().split(",") if name]
        strangers = [name for name in members if name not in VMM_USERS]
        if strangers:
            yield Advice(
                check=f"group-{group}", level="warn", found=f"{', '.join(strangers)} in group {group}", why=why,
                fix="; ".join(f"gpasswd -d {name} {group}" for name in strangers), sfr="FMT_SMR.2, FMT_MOF_EXT.1",
            )  # fmt: skip
        else:
            yield Advice(check=f"group-{group}", level="pass", found=f"nobody in group {group}", sfr="FMT_SMR.2")


def _tpm(facts: Facts) -> Iterator[Advice]:
    place = facts.places.get("/dev/tpmrm0")
    if place is None:
        yield Advice(
            check="tpm", level="warn", found="no /dev/tpmrm0", sfr="FPT_ML_EXT.1",
            why="Without a chip nothing is proven: a software TPM is assurance level L0.",
            fix="switch the TPM on in the firmware setup",
        )  # fmt: skip
        return
    users = [name for name in ("/dev/tpm0", "/dev/tpmrm0") if not _for_root(facts.places.get(name))]
    if users:
        yield Advice(
            check="tpm", level="warn", found=f"{' and '.join(users)} for others than root", sfr="FPT_ML_EXT.1",
            why="libvirt runs the software TPMs of VMs as tss; one that a guest broke out of could use the host's TPM.",
            fix="""echo 'KERNEL=="tpm[0-9]*|tpmrm[0-9]*", MODE="0600", OWNER="root"' >/etc/udev/rules.d/99-tpm.rules;"""
            " udevadm trigger",
        )  # fmt: skip
    else:
        yield Advice(check="tpm", level="pass", found="/dev/tpmrm0 is for root only", sfr="FPT_ML_EXT.1")


def _for_root(place: Place | None) -> bool:
    return place is None or (place.uid == 0 and not place.mode & (stat.S_IRWXG | stat.S_IRWXO))


def _ours(facts: Facts) -> Iterator[Advice]:
    """What only root may write: the hook, the settings, the state."""
    for what, path in (("hook", "/etc/libvirt/hooks/qemu"), ("settings", "/etc/vmgate"), ("state", "/var/lib/vmgate")):
        place = facts.places.get(path)
        check = f"vmgate/{what}"
        if place is None:
            yield Advice(
                check=check, level="fail", found=f"no {path}", why="This host was not set up: no VM gets its key.",
                fix="vmgate init --anchor FILE", sfr="FPT_GVI_EXT.1",
            )  # fmt: skip
        elif place.uid or stat.S_ISLNK(place.mode) or place.mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield Advice(
                check=check, level="fail", found=f"{path} is not root's alone", sfr="FPT_GVI_EXT.1",
                why=f"Somebody else could change vmgate's {what}.", fix=f"chown root: {path}; chmod go-w {path}",
            )  # fmt: skip
        else:
            yield Advice(check=check, level="pass", found=f"{path} is root's alone", sfr="FPT_GVI_EXT.1")


def _others_hooks(facts: Facts) -> Iterator[Advice]:
    names = facts.folders.get("/etc/libvirt/hooks/qemu.d", ())
    if names:
        yield Advice(
            check="hooks", level="note", found=f"{', '.join(names[:5])} in /etc/libvirt/hooks/qemu.d",
            why="They run after the gate, as root, and see each VM's XML; none may change a disk.",
            fix="read them, and remove what is not needed", sfr="FPT_GVI_EXT.1",
        )  # fmt: skip
    autostart = facts.folders.get("/etc/libvirt/qemu/autostart", ())
    if autostart:
        yield Advice(
            check="autostart", level="note", found=f"{', '.join(autostart[:5])}", sfr="FPT_GVI_EXT.1",
            why="libvirt starts them by itself; the gate lets them wait, and the agent starts what is trusted.",
            fix="`virsh autostart --disable NAME` where a VM need not start with the host",
        )  # fmt: skip


def _same_page_merging(facts: Facts) -> Iterator[Advice]:
    run = facts.files.get("/sys/kernel/mm/ksm/run", "0").strip()
    if run == "1":
        yield Advice(
            check="ksm", level="warn", found="the kernel merges equal pages", sfr="FDP_VMS_EXT.1",
            why="By the time that a write takes, one VM can tell what another holds.",
            fix="echo 2 >/sys/kernel/mm/ksm/run; systemctl disable --now ksm ksmtuned",
        )  # fmt: skip
    else:
        yield Advice(check="ksm", level="pass", found="equal pages are not merged", sfr="FDP_VMS_EXT.1")


def _threads(facts: Facts) -> Iterator[Advice]:
    active = facts.files.get("/sys/devices/system/cpu/smt/active", "").strip()
    if active == "0":
        yield Advice(check="smt", level="pass", found="no two threads share a core", sfr="FDP_VMS_EXT.1")
        return
    yield Advice(
        check="smt", level="warn", found="two threads share a core" if active == "1" else "the kernel does not tell",
        why="VMs on the same core can measure each other.", sfr="FDP_VMS_EXT.1",
        fix='boot with `nosmt`, or from libvirt 8.9 write `sched_core = "vcpus"` into /etc/libvirt/qemu.conf',
    )  # fmt: skip


def _vulnerabilities(facts: Facts) -> Iterator[Advice]:
    names = facts.folders.get(VULNERABILITIES, ())
    open_ = [n for n in names if facts.files.get(f"{VULNERABILITIES}/{n}", "Vulnerable").startswith("Vulnerable")]
    if not names:
        yield Advice(
            check="mitigations", level="warn", found="the kernel does not tell", sfr="FPT_EEM_EXT.1",
            why="Whether the processor leaks between VMs is not known.", fix="use a kernel from 4.15 on",
        )  # fmt: skip
    elif open_:
        yield Advice(
            check="mitigations", level="fail", found=", ".join(open_), sfr="FPT_EEM_EXT.1",
            why="The processor leaks between VMs, and the kernel does nothing about it.",
            fix="update the microcode and the kernel; remove `mitigations=off` from the kernel's command line",
        )  # fmt: skip
    else:
        yield Advice(check="mitigations", level="pass", found=f"{len(names)} known, none open", sfr="FPT_EEM_EXT.1")
    if "mitigations=off" in facts.files.get("/proc/cmdline", "").split():
        yield Advice(
            check="mitigations", level="fail", found="mitigations=off on the kernel's command line",
            why="The kernel protects VMs from each other as little as it can.", sfr="FPT_EEM_EXT.1",
            fix="remove it from the kernel's command line and reboot",
        )  # fmt: skip


def _nested(facts: Facts) -> Iterator[Advice]:
    for module in ("kvm_intel", "kvm_amd"):
        if facts.files.get(f"/sys/module/{module}/parameters/nested", "0").strip() in ("1", "Y"):
            yield Advice(
                check="nested", level="warn", found=f"{module} lets guests start guests", sfr="FPT_VIV_EXT.1",
                why="It is the least tested part of KVM. vmgate's definitions take the processor feature away.",
                fix=f"echo 'options {module} nested=0' >/etc/modprobe.d/{module}.conf, and reboot",
            )  # fmt: skip


def _iommu(facts: Facts) -> Iterator[Advice]:
    if facts.folders.get("/sys/class/iommu"):
        yield Advice(check="iommu", level="pass", found="an IOMMU is in use", sfr="FDP_HBI_EXT.1")
    else:
        yield Advice(
            check="iommu", level="note", found="no IOMMU in use", sfr="FDP_HBI_EXT.1",
            why="No device can be given to a VM, and a device that attackers plug in may read all memory.",
            fix="switch it on in the firmware setup; on Intel boot with `intel_iommu=on`",
        )  # fmt: skip


def _networks(facts: Facts) -> Iterator[Advice]:
    """Libvirt 9.0 ends when it is restarted with a network that is active and without dnsmasq, whatever the kind."""
    if "/var/lib/vmgate/networks.json" in facts.places and "/usr/sbin/dnsmasq" not in facts.places:
        yield Advice(
            check="networks", level="fail", found="networks of VMs, and no dnsmasq", sfr="FDP_VNC_EXT.1",
            why="libvirt gives out addresses by it, and does not survive a restart without it.",
            fix="apt install dnsmasq-base",
        )  # fmt: skip


def _disks(facts: Facts) -> Iterator[Advice]:
    plain = [name for name, covered in facts.swaps.items() if not covered]
    if plain:
        yield Advice(
            check="swap", level="warn", found=f"{', '.join(plain)} is not encrypted", sfr="FDP_RIP_EXT.1",
            why="Memory of VMs, keys included, can end up there and outlive them.",
            fix=f"swapoff {' '.join(plain)}, and remove it from /etc/fstab; or encrypt it with a key made at each boot",
        )  # fmt: skip
    else:
        yield Advice(check="swap", level="pass", found="none, or encrypted", sfr="FDP_RIP_EXT.1")
    if facts.free is None:
        return
    if facts.free < FREE:
        yield Advice(
            check="space", level="warn", found=f"{facts.free:.0%} free where /var/lib/vmgate lies", sfr="FAU_STG.4",
            why="A full disk stops updates and, as audit comes before every act, starts of VMs.", fix="free some",
        )  # fmt: skip
    else:
        yield Advice(check="space", level="pass", found=f"{facts.free:.0%} free", sfr="FAU_STG.4")


def _verity(facts: Facts) -> Iterator[Advice]:
    if facts.store is None:
        return
    filesystem, state = facts.store
    if state == "on":
        yield Advice(check="fs-verity", level="pass", found=f"kept by {filesystem}", sfr="FPT_ML_EXT.1")
        return
    sealed_later = "the next `vmgate update apply` seals them"
    fixes = {
        "ext4": "tune2fs -O verity DEVICE, once; then `vmgate update apply` seals what is there",
        "f2fs": "make the file system anew with mkfs.f2fs -O verity",
        "btrfs": "use Linux 5.15 or newer",
    }
    yield Advice(
        check="fs-verity", level="note", found=f"the store lies on {filesystem} without it", sfr="FPT_ML_EXT.1",
        why="Images are read whole before each start, and what changes on the disk later is not seen.",
        fix=sealed_later if state == "off" else fixes.get(filesystem, "use ext4 or btrfs"),
    )  # fmt: skip


def _cores(facts: Facts) -> Iterator[Advice]:
    pattern = facts.files.get("/proc/sys/kernel/core_pattern", "").strip()
    if pattern in ("", "|/bin/false", "|/usr/bin/false"):
        yield Advice(check="core-dumps", level="pass", found="none are kept", sfr="FDP_RIP_EXT.1")
    else:
        yield Advice(
            check="core-dumps", level="note", found=pattern[:100], sfr="FDP_RIP_EXT.1",
            why="What a crashed process held is kept. QEMU leaves the guest's memory out where qemu.conf says so.",
            fix="sysctl -w kernel.core_pattern='|/bin/false', and in /etc/sysctl.d",
        )  # fmt: skip


def _boot(facts: Facts) -> Iterator[Advice]:
    if facts.secure_boot:
        yield Advice(check="secure-boot", level="pass", found="on", sfr="FPT_ML_EXT.1")
    else:
        yield Advice(
            check="secure-boot", level="warn", found="off" if facts.secure_boot is False else "no such variable",
            why="What booted was not checked before it ran, so no more than assurance level L1 can be reached.",
            fix="switch Secure Boot on in the firmware setup; see the guide to hosts for level L2", sfr="FPT_ML_EXT.1",
        )  # fmt: skip
    if facts.files.get("/proc/sys/kernel/kexec_load_disabled", "0").strip() != "1":
        yield Advice(
            check="kexec", level="note", found="another kernel can be loaded without a boot", sfr="FPT_ML_EXT.1",
            why="The TPM would not see it.", fix="sysctl -w kernel.kexec_load_disabled=1, and in /etc/sysctl.d",
        )  # fmt: skip
    lockdown = facts.files.get("/sys/kernel/security/lockdown", "")
    if "[integrity]" not in lockdown and "[confidentiality]" not in lockdown:
        yield Advice(
            check="lockdown", level="note", found="the kernel is not locked down", sfr="FPT_ML_EXT.1",
            why="Root can change the running kernel.", fix="boot with `lockdown=integrity`",
        )  # fmt: skip


def _labels(facts: Facts) -> Iterator[Advice]:
    apparmor = facts.files.get("/sys/module/apparmor/parameters/enabled", "").strip() == "Y"
    selinux = facts.files.get("/sys/fs/selinux/enforce", "").strip() == "1"
    if apparmor or selinux:
        name = "AppArmor" if apparmor else "SELinux"
        yield Advice(check="labels", level="pass", found=f"{name} keeps VMs apart", sfr="FDP_VMS_EXT.1")
    else:
        yield Advice(
            check="labels", level="fail", found="neither AppArmor nor SELinux", sfr="FDP_VMS_EXT.1",
            why="A guest that breaks out of QEMU reaches what every other QEMU reaches.",
            fix="install apparmor and boot with `apparmor=1 security=apparmor`",
        )  # fmt: skip


CHECKS: Final[tuple[Callable[[Facts], Iterator[Advice]], ...]] = (
    _kvm, _labels, _ours, _others_hooks, _tpm, _boot, _people, _vulnerabilities, _threads, _same_page_merging, _nested,
    _iommu, _networks, _disks, _verity, _cores,
)  # fmt: skip
"""In the order of the report."""
