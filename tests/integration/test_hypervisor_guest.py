# SPDX-License-Identifier: Apache-2.0
"""A guest on real libvirt, QEMU, OVMF and swtpm: it boots, and what must not start does not.

KVM is not used; the accelerator is QEMU's emulation.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from documents.definition import Disk, VmDefinition
from hypervisor.compare import differences
from hypervisor.domain import Placement, render
from hypervisor.errors import DomainMissing, DomainRefused, KeyAbsent, LibvirtAway, StartFailed, StartRefused
from hypervisor.libvirt import Hypervisor
from hypervisor.lint import lint
from lab import guest_image
from lab.libvirt_host import LibvirtHost, running

pytestmark = pytest.mark.timeout(60)

SECRET = "11111111-1111-4111-8111-111111111111"
KEY, OTHER_KEY = b"ab" * 32, b"cd" * 32
LOADER = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
EMPTY_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
KEEP_XML = "#!/bin/sh\nexec cat >{}/$2-$3.xml\n"
LINE = "error[AG123]: the image is not what was signed"
REFUSE = f"#!/bin/sh\ncat >/dev/null\n[ $2 = prepare ] || exit 0\necho '{LINE}' >&2\nexit 5\n"
NETWORK = "<interface type='user'><model type='virtio'/></interface>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The private libvirt and what a VM is made of."""

    folder: Path
    host: LibvirtHost
    hypervisor: Hypervisor
    image: Path
    unsigned: Path
    vars_template: Path

    def vm(self, name: str, number: int) -> tuple[VmDefinition, Placement, str]:
        """A new VM: its files are there, and libvirt does not know it yet."""
        folder = self.folder / "vms" / name
        folder.mkdir(parents=True)
        shutil.copy(self.vars_template, folder / "vars.fd")
        definition = VmDefinition(
            name=name,
            uuid=f"22222222-2222-4222-8222-{number:012d}",
            title="",
            machine="pc-q35-7.2",
            vcpus=1,
            memory_mib=256,
            disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
            guardians=("tpm",),
        )
        placement = Placement(
            emulator=Path("/usr/bin/qemu-system-x86_64"),
            firmware_code=LOADER,
            firmware_vars=folder / "vars.fd",
            disks={"system": self.image},
            console_log=folder / "console.log",
            accelerator="emulation",
            vtpm_secret=SECRET,
        )
        return definition, placement, render(definition, placement)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # Not pytest's folder: QEMU's user may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="vmgate-hypervisor-"))
    folder.chmod(0o755)
    try:
        key, cert = guest_image.self_signed(folder / "keys", "test")
        kernel = guest_image.cached_kernel()
        tool = guest_image.cache_folder() / "tools/bin/virt-fw-vars"
        sign = guest_image.signer(key, cert)
        image = guest_image.build(folder / "signed", build_text="build 1", kernel_deb=kernel, sign=sign)
        unsigned = guest_image.build(folder / "unsigned", build_text="build 1", kernel_deb=kernel, sign=None)
        template = guest_image.enrolled_vars(tool, EMPTY_VARS, cert, folder / "vars-template.fd")
        again = guest_image.build(folder / "again", build_text="build 1", kernel_deb=kernel, sign=sign)
        assert again.read_bytes() == image.read_bytes()
        with running(folder / "libvirt") as host:
            yield Lab(
                folder=folder,
                host=host,
                hypervisor=Hypervisor.open(),
                image=image,
                unsigned=unsigned,
                vars_template=template,
            )
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> Iterator[None]:
    yield
    for domain in lab.hypervisor.domains():
        lab.hypervisor.kill(domain.name)
        lab.hypervisor.undefine(domain.name)
    lab.hypervisor.drop_secret(SECRET)
    lab.host.remove_hook()
    lab.host.restart_libvirtd()


def test_a_guest_boots_and_is_what_was_rendered(lab: Lab) -> None:
    seen = lab.folder / "seen"
    seen.mkdir()
    lab.host.install_hook(KEEP_XML.format(seen))
    definition, placement, xml = lab.vm("good", 1)
    lab.hypervisor.define(xml)
    assert lab.hypervisor.state("good") == "off"
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.hypervisor.start("good")
    assert lab.hypervisor.state("good") == "running"
    lab.hypervisor.drop_secret(SECRET)

    text = guest_image.wait_for(placement.console_log, guest_image.READY)
    assert "vmgate-guest: build=build 1\n" in text
    assert re.search(r"vmgate-guest: hwrng=[0-9a-f]{32}\n", text)
    pcrs = dict(re.findall(r"vmgate-guest: pcr (\d+)=([0-9a-f]{64})\n", text))
    assert set(pcrs) == {str(n) for n in range(16)}
    assert all(set(pcrs[str(n)]) != {"0"} for n in (0, 1, 2, 3, 4, 5, 6, 7, 9))
    assert "vmgate-guest: secure-boot=1" in text

    # The same domain at every step, and nothing in it that the linter denies but the emulation.
    steps = [path.read_bytes() for path in sorted(seen.iterdir())]
    assert {path.name for path in seen.iterdir()} >= {"prepare-begin.xml", "start-begin.xml", "started-begin.xml"}
    for found in [*steps, lab.hypervisor.xml("good"), lab.hypervisor.xml("good", live=True)]:
        assert differences(xml, found) == ()
        assert [f.id for f in lint(found)] == ["HV001"]

    # The base image still belongs to root, and QEMU opened it for reading only.
    assert lab.image.stat().st_uid == 0
    lab.hypervisor.stop("good", 60)
    assert lab.hypervisor.state("good") == "off"
    assert "vmgate-guest: stopping" in placement.console_log.read_text()


def test_the_vtpm_does_not_open_without_its_secret_nor_with_another(lab: Lab) -> None:
    definition, _, xml = lab.vm("locked", 2)
    lab.hypervisor.define(xml)
    with pytest.raises(KeyAbsent):
        lab.hypervisor.start("locked")
    assert lab.hypervisor.state("locked") == "off"

    # With the secret it starts; the secret is dropped as soon as it runs.
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.hypervisor.start("locked")
    lab.hypervisor.drop_secret(SECRET)
    lab.hypervisor.kill("locked")

    # Now there is state, and neither nobody nor somebody else opens it.
    with pytest.raises(KeyAbsent):
        lab.hypervisor.start("locked")
    lab.hypervisor.set_secret(SECRET, definition.uuid, OTHER_KEY)
    with pytest.raises(StartFailed):
        lab.hypervisor.start("locked")
    assert lab.hypervisor.state("locked") == "off"

    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.hypervisor.start("locked")
    assert lab.hypervisor.state("locked") == "running"


def test_the_secret_can_be_given_while_the_hook_waits(lab: Lab) -> None:
    """As the gate does: one thread starts the VM, another answers the hook, both through the same object."""
    asked, given = lab.folder / "asked", lab.folder / "given"
    os.mkfifo(asked)
    os.mkfifo(given)
    lab.host.install_hook(f"#!/bin/sh\ncat >/dev/null\n[ $2 = prepare ] || exit 0\n: >{asked}\nexec cat {given}\n")
    definition, _, xml = lab.vm("given", 8)
    lab.hypervisor.define(xml)
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(lab.hypervisor.start, "given")
        asked.read_bytes()
        lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
        given.write_bytes(b"")
        start.result(60)
    assert lab.hypervisor.state("given") == "running"


def test_a_refusing_hook_is_heard_by_us_and_by_virsh(lab: Lab) -> None:
    definition, placement, xml = lab.vm("refused", 3)
    lab.hypervisor.define(xml)
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.host.install_hook(REFUSE)
    with pytest.raises(StartRefused) as refused:
        lab.hypervisor.start("refused")
    assert refused.value.said == LINE
    assert refused.value.exit == 5

    done = lab.host.virsh("start", "refused", check=False)
    assert done.returncode == 1
    assert LINE in done.stderr
    assert lab.hypervisor.state("refused") == "off"
    assert not placement.console_log.exists()


def test_secure_boot_refuses_what_nobody_signed(lab: Lab) -> None:
    definition, placement, _ = lab.vm("nobodys", 4)
    placement = replace(placement, disks={"system": lab.unsigned})
    lab.hypervisor.define(render(definition, placement))
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.hypervisor.start("nobodys")
    with pytest.raises(guest_image.GuestFailed, match="Access Denied"):
        guest_image.wait_for(placement.console_log, guest_image.READY)
    assert "vmgate-guest" not in placement.console_log.read_text()


def test_a_changed_domain_is_told_by_the_xml_that_the_hook_gets(lab: Lab) -> None:
    seen = lab.folder / "changed-seen"
    seen.mkdir()
    lab.host.install_hook(KEEP_XML.format(seen).replace("exec cat", "cat") + "exit 5\n")
    definition, _, xml = lab.vm("changed", 5)
    lab.hypervisor.define(xml.replace("</devices>", f"{NETWORK}</devices>"))
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    with pytest.raises(StartRefused):
        lab.hypervisor.start("changed")
    found = differences(xml, (seen / "prepare-begin.xml").read_bytes())
    assert [d.xpath for d in found] == ["/domain/devices[1]/interface[1]"]
    assert "HV051" in {f.id for f in lint((seen / "prepare-begin.xml").read_bytes())}


def test_libvirt_away_and_back(lab: Lab) -> None:
    _, _, xml = lab.vm("waiting", 6)
    lab.hypervisor.define(xml)
    lab.host.stop_libvirtd()
    for call in (lab.hypervisor.domains, lambda: lab.hypervisor.state("waiting"), Hypervisor.open):
        with pytest.raises(LibvirtAway) as away:
            call()
        assert away.value.exit == 7
    lab.host.start_libvirtd()
    assert lab.hypervisor.state("waiting") == "off"
    assert re.fullmatch(r"\d+\.\d+\.\d+", lab.hypervisor.version)


def test_undefining_leaves_neither_firmware_variables_nor_tpm(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    definition, placement, xml = lab.vm("gone", 7)
    lab.hypervisor.define(xml)
    lab.hypervisor.set_secret(SECRET, definition.uuid, KEY)
    lab.hypervisor.start("gone")
    lab.hypervisor.kill("gone")
    state = Path("/var/lib/libvirt/swtpm", definition.uuid)
    assert any(state.rglob("tpm2-00.permall"))
    lab.hypervisor.undefine("gone")
    assert not any(state.rglob("*"))
    assert not placement.firmware_vars.exists()

    # What is not there is said in our words, and libvirt itself prints nothing.
    assert lab.hypervisor.state("gone") == "undefined"
    with pytest.raises(DomainMissing):
        lab.hypervisor.undefine("gone")
    with pytest.raises(DomainRefused):
        lab.hypervisor.define("<domain/>")
    assert capfd.readouterr() == ("", "")
