# SPDX-License-Identifier: Apache-2.0
"""Assurance level L2 on a whole host: what it booted and what runs is named, told outside, and keys stay shut.

One host is set up once and stopped; each story goes on from there, with its power on or off. The TPM is software. Where
a story speaks of L2, the verifier is told to take it for a chip, and nothing else is different.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deb.tree import SITE
from lab.publisher import VM_NAME
from lab.world import folder, serving
from rig import variants
from rig.attacked import Attack, switched_on, with_other_kernel, with_words
from rig.image import Image
from rig.machine import Machine, Snapshot
from rig.published import Appraisal, Publisher, begin
from rig.set_up import AK, appraise, attack, laid_over, refused, set_up
from rig.uki import Parts, Signer

pytestmark = pytest.mark.timeout(1_200)
long = pytest.mark.long
"""Stories for which the host is switched on again: most of a minute each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A publisher and its one host, stopped while it ran as signed."""

    publisher: Publisher
    running: Snapshot
    ak: bytes
    first: Appraisal
    first_as_chip: Appraisal

    @property
    def parts(self) -> Parts:
        """What the signed kernel image is made of."""
        return self.running.image.parts

    @property
    def owner(self) -> Signer:
        """Who signs kernel images here."""
        return self.running.image.owner.signer

    def appraise(self, machine: Machine, below: Path) -> Appraisal:
        """Judge a machine as if its TPM were a chip."""
        return appraise(machine, self.publisher, self.ak, below, chip=True)


@pytest.fixture(scope="module")
def site(image: Image) -> Iterator[Site]:
    """A host, booted, set up over HTTP and appraised."""
    with folder("rig-site") as below:
        publisher = begin(below)
        with (
            serving(publisher.desk.repository) as url,
            Machine(image, web=int(url.rsplit(":", 1)[1].strip("/"))) as host,
        ):
            host.boot()
            set_up(host, publisher)
            ak = host.read(AK)
            first = appraise(host, publisher, ak, below)
            as_chip = appraise(host, publisher, ak, below, chip=True)
            yield Site(
                publisher=publisher,
                running=host.snapshot(below / "running"),
                ak=ak,
                first=first,
                first_as_chip=as_chip,
            )


@pytest.fixture
def host(site: Site) -> Iterator[Machine]:
    """The host, going on where it was stopped."""
    with Machine.restored(site.running) as machine:
        yield machine


def test_a_host_as_signed_is_judged_l2_and_affirming_outside(site: Site) -> None:
    found = site.first_as_chip
    assert (found.exit, found.level, found.status, found.failed()) == (0, "L2", "affirming", set())
    checks = {finding["check"] for finding in found.findings}
    assert checks >= {
        "secure-boot", "secure-boot-variable", "secure-boot-authority", "boot-application", "boot-section",
        "boot-command-line", "boot-initrd", "boot-phase", "firmware", "ima-list", "ima-file", "start-order",
        "host-local", "component-digest",
    }  # fmt: skip


def test_its_software_tpm_is_called_one(site: Site) -> None:
    assert (site.first.exit, site.first.level, site.first.status) == (0, "L0", "warning")
    assert [f["check"] for f in site.first.findings if f["outcome"] == "warn"] == ["assurance-level"]


def test_root_on_the_host_as_signed_can_open_the_key(host: Machine) -> None:
    """The control of every story below in which the same program opens nothing."""
    assert "OPENED" in attack(host)


@pytest.mark.parametrize(
    ("path", "check"),
    [
        ("/usr/sbin/libvirtd", "host/libvirtd"),
        ("/etc/libvirt/qemu.conf", "host/qemu.conf"),
        ("/usr/lib/vmgate/lib/python3.11/site-packages/agent/gate.py", "vmgate/build"),
        ("/etc/libvirt/hooks/qemu", "vmgate/hook"),
    ],
)
def test_a_file_that_root_changes_is_named_and_no_vm_starts(host: Machine, path: str, check: str) -> None:
    with laid_over(host, path, "echo '# changed' >> {}"):
        code, said = host.run(f"vmgate vm start {VM_NAME}", 300)
        assert code == 5, said
        why = host.run(f"vmgate vm why {VM_NAME}", 120).output
    assert check in why
    assert host.do(f"virsh domstate {VM_NAME}").strip() == "shut off"
    assert f"check=component-now; component={check}" in host.do("vmgate audit list --last 20", 120)


def test_a_changed_libvirtd_that_runs_is_told_outside(site: Site, host: Machine, tmp_path: Path) -> None:
    with laid_over(host, "/usr/sbin/libvirtd", "printf x >> {}"):
        host.do("systemctl restart libvirtd.service", 300)
    found = site.appraise(host, tmp_path)
    assert found.failed() == {("ima-file", "/usr/sbin/libvirtd")}
    assert (found.exit, found.level, found.status) == (5, "L1", "contraindicated")


def test_a_program_of_nobodys_is_told_outside(site: Site, host: Machine, tmp_path: Path) -> None:
    host.do("cp /usr/bin/true /tmp/rootkit && /tmp/rootkit")
    assert site.appraise(host, tmp_path).failed() == {("ima-file", "/tmp/rootkit")}
    refused(host)


def _other(image: Image, name: str, below: Path) -> Parts:
    if name == "kernel":
        return with_other_kernel(image.parts, below)
    if name == "initrd":
        return variants.with_unverified_root(image, below)
    return with_words(image.parts, "vmgate.attacker=1")


@long
@pytest.mark.parametrize("name", ["kernel", "command line", "initrd"])
def test_another_image_that_the_site_signed_is_named_and_the_key_stays_shut(
    site: Site, name: str, tmp_path: Path
) -> None:
    """Secure Boot lets it run, and vmgate measures what it always measures. The initrd mounts the root unverified."""
    parts = _other(site.running.image, name, tmp_path / "parts")
    with switched_on(site.running, Attack(parts=parts, signer=site.owner), tmp_path) as host:
        host.wait_until_up()
        found = site.appraise(host, tmp_path)
        assert ("boot-section", name) in found.failed()
        assert ("boot-application", "kernel image") in found.failed()
        assert {check for check, _ in found.failed()} <= {
            "boot-application", "boot-section", "boot-command-line", "boot-initrd", "boot-phase", "host-local"
        }  # fmt: skip
        assert found.status == "contraindicated"
        refused(host)
        assert "OPENED" not in attack(host)


@long
def test_an_attacker_who_replays_our_extends_opens_nothing(site: Site, tmp_path: Path) -> None:
    """vmgate does not run at all: PCR 13 holds just what the attacker extends, which is what vmgate would."""
    parts = with_words(site.parts, "systemd.mask=vmgate.service", "systemd.mask=libvirtd.service")
    with switched_on(site.running, Attack(parts=parts, signer=site.owner), tmp_path) as host:
        host.wait_until_up()
        said = attack(host)
        assert "OPENED" not in said
        assert "PCR 13 = " in said
        assert ("PCR 13 = " + "0" * 64) not in said


@long
def test_a_host_whose_secure_boot_is_off_is_named_and_the_key_stays_shut(site: Site, tmp_path: Path) -> None:
    change = Attack(variables=site.running.image.variables_off)
    with switched_on(site.running, change, tmp_path) as host:
        host.wait_until_up()
        found = site.appraise(host, tmp_path)
        assert ("secure-boot", "SecureBoot") in found.failed()
        # Without Secure Boot the stub lets the firmware load the kernel, which then is measured as a second program.
        assert {check for check, _ in found.failed()} <= {
            "secure-boot", "secure-boot-variable", "secure-boot-authority", "boot-application"
        }  # fmt: skip
        assert "secure-boot" in refused(host)
        assert "OPENED" not in attack(host)


@long
def test_firmware_with_other_keys_is_named_and_the_key_stays_shut(site: Site, tmp_path: Path) -> None:
    """Somebody else's Secure Boot is on, and they signed the same parts."""
    image = site.running.image
    change = Attack(parts=site.parts, signer=image.other.signer, variables=image.variables_other)
    with switched_on(site.running, change, tmp_path) as host:
        host.wait_until_up()
        found = site.appraise(host, tmp_path)
        assert ("secure-boot-variable", "db") in found.failed()
        assert ("secure-boot-authority", "kernel image") in found.failed()
        assert ("secure-boot", "SecureBoot") not in found.failed()
        refused(host)
        assert "OPENED" not in attack(host)


def _rebuild(root: Path) -> None:
    """What an attacker changes who can write the whole disk."""
    for path in ("usr/sbin/libvirtd", "etc/libvirt/qemu.conf", f"{SITE}/agent/gate.py"):
        with (root / path).open("ab") as file:
            file.write(b"\n# changed\n")
    (root / "etc/libvirt/hooks/qemu").unlink()
    (root / "etc/systemd/system/multi-user.target.wants/vmgate.service").unlink()
    (root / "usr/lib/systemd/system/libvirtd.service.d/vmgate.conf").unlink()


@long
def test_each_thing_that_was_changed_in_a_rebuilt_root_is_named(site: Site, tmp_path: Path) -> None:
    """Secure Boot off, and a root of the attacker's: libvirtd, its settings, vmgate, hook and units are changed."""
    image = site.running.image
    root = variants.with_root(image, tmp_path / "root", _rebuild, None)
    with switched_on(site.running, Attack(root=root, variables=image.variables_off), tmp_path) as host:
        host.wait_until_up()
        host.do("systemctl start libvirtd.service && systemctl start vmgate.service", 300)
        found = site.appraise(host, tmp_path)
        assert found.failed() >= {
            ("secure-boot", "SecureBoot"),
            ("boot-application", "kernel image"),
            ("boot-section", "command line"),
            ("ima-file", "/usr/sbin/libvirtd"),
            ("host-local", "host/libvirtd"),
            ("host-local", "host/qemu.conf"),
            ("component-digest", "vmgate/build"),
            ("component-digest", "vmgate/hook"),
            ("start-order", "libvirtd"),
        }
        assert "OPENED" not in attack(host)


def test_a_unit_that_is_masked_leaves_libvirt_and_the_vms_off(host: Machine) -> None:
    host.do(
        "systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket vmgate.service", 120
    )
    host.do("systemctl mask --runtime vmgate.service")
    code, said = host.run("systemctl start libvirtd.service", 120)
    assert code, said
    assert host.run(f"virsh start {VM_NAME}", 60).code


@pytest.mark.parametrize("signer", ["nobody", "somebody else"])
def test_an_image_that_the_site_did_not_sign_does_not_boot(site: Site, signer: str, tmp_path: Path) -> None:
    change = Attack(parts=site.parts, signer=site.running.image.other.signer if signer == "somebody else" else None)
    with switched_on(site.running, change, tmp_path) as host:
        assert host.wait_for_end() in {"Access Denied", "No bootable option", "Security Violation"}
