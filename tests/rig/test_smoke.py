# SPDX-License-Identifier: Apache-2.0
"""The rig itself: a whole host boots as it should, and shows what tests elsewhere build on.

Two hosts of one image run at once. Nothing here is about attacks on vmgate; those stories are in ``test_l2``.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography import x509

from content.fsverity import digest_bytes
from lab.command import run
from lab.world import folder
from measure import ima, ima_entries
from measure.boot_events import decode
from measure.bootlog import parse_boot_log
from measure.replay import replay_log
from publisher.firmware import expected_variables
from rig.image import Image
from rig.machine import Hardware, Machine
from rig.set_up import PYTHON
from rig.variants import with_changed_bytes

pytestmark = pytest.mark.timeout(600)

SECURITY = "/sys/kernel/security"
EK_CERTIFICATE = "0x1c00002"
"""NV index of the RSA 2048 endorsement certificate (TCG EK Credential Profile, section 2.2.1.4)."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two hosts that run at the same time: one with two processors, one with one."""

    first: Machine
    second: Machine


@pytest.fixture(scope="module")
def hosts(image: Image) -> Iterator[Hosts]:
    """Both, up."""
    with ExitStack() as stack:
        first = stack.enter_context(Machine(image))
        second = stack.enter_context(Machine(image, Hardware(cpus=1, memory_mib=1024)))
        for machine in (first, second):
            machine.switch_on()
        for machine in (first, second):
            machine.wait_until_up()
        yield Hosts(first, second)


@pytest.fixture
def host(hosts: Hosts) -> Machine:
    """The one that most stories ask."""
    return hosts.first


def pcrs(machine: Machine) -> dict[int, bytes]:
    """The TPM's SHA-256 bank."""
    found = re.findall(r"^ *(\d+) *: 0x([0-9A-F]{64})$", machine.do("tpm2_pcrread sha256"), re.MULTILINE)
    return {int(index): bytes.fromhex(value) for index, value in found}


def extended(value: bytes, *words: str) -> bytes:
    """A PCR after systemd-pcrphase measured words into it, which no log tells."""
    for word in words:
        value = hashlib.sha256(value + hashlib.sha256(word.encode()).digest()).digest()
    return value


def test_two_hosts_of_one_image_run_at_once_each_with_its_own_tpm(hosts: Hosts, image: Image) -> None:
    authority = x509.load_pem_x509_certificate((image.tpm_ca / "issuercert.pem").read_bytes())
    certificates = []
    for machine in (hosts.first, hosts.second):
        assert machine.run("systemctl is-system-running").output.strip() == "running"
        machine.do(f"tpm2_nvread -C o -o /run/ek {EK_CERTIFICATE}")
        certificate = x509.load_der_x509_certificate(machine.read("/run/ek"))
        certificate.verify_directly_issued_by(authority)
        certificates.append(certificate.serial_number)
    assert certificates[0] != certificates[1]
    first, second = pcrs(hosts.first), pcrs(hosts.second)
    # The kernel image, Secure Boot, and what the stub measured; PCR 0 differs with the number of processors.
    assert [first[index] for index in (4, 7, 11)] == [second[index] for index in (4, 7, 11)]


def test_secure_boot_is_on_with_our_keys_and_the_kernel_is_locked_down(host: Machine, image: Image) -> None:
    state = decode(parse_boot_log(host.read(f"{SECURITY}/tpm0/binary_bios_measurements")))
    expected = expected_variables(image.owner.certificates)
    ours = {name: hashlib.sha256(data).hexdigest() for (name, _), (_, data) in expected.items()}
    assert state.secure_boot
    assert state.variables == {name: ours[name] for name in ("PK", "KEK", "db", "dbx")}
    assert len(state.authorities) == len(state.applications) == 1
    assert [name for name, _ in state.sections] == [".linux", ".osrel", ".cmdline", ".initrd"]
    assert "[integrity]" in host.do(f"cat {SECURITY}/lockdown")
    assert host.do("cat /proc/cmdline").strip() == image.command_line


def test_the_logs_replay_to_the_tpm(host: Machine) -> None:
    values = pcrs(host)
    measured = ima.replay(ima.parse_ima(host.read(f"{SECURITY}/ima/binary_runtime_measurements")), ("sha256",))
    firmware = replay_log(host.read(f"{SECURITY}/tpm0/binary_bios_measurements")).pcrs["sha256"]
    for index in (*range(8), 9):
        assert firmware[index] == values[index], f"PCR {index}"
    assert not any(values[8])
    assert extended(firmware[11], "sysinit", "ready") == values[11]
    # Nothing was run in between, or the list would be ahead of the PCR.
    assert measured["sha256"][10] == pcrs(host)[10]


def test_what_runs_is_measured(host: Machine) -> None:
    host.do("cp /usr/bin/true /tmp/measured-from-memory && /tmp/measured-from-memory")
    entries = ima.parse_ima(host.read(f"{SECURITY}/ima/binary_runtime_measurements")).entries
    files = {ima_entries.file_of(entry).name for entry in entries if entry.template == "ima-sig"}
    assert {"boot_aggregate", "/usr/bin/dbus-daemon", "/usr/lib/x86_64-linux-gnu/libc.so.6"} <= files
    assert "/tmp/measured-from-memory" in files
    assert not [entry for entry in entries if entry.violation]


def test_the_root_is_verified_and_nobody_writes_to_it(host: Machine, image: Image) -> None:
    assert host.do("dmsetup status root").split()[-1] == "V"
    assert image.root_hash in host.do("dmsetup table root")
    assert host.do("findmnt -no SOURCE,OPTIONS /").split()[0] == "/dev/dm-0"
    for attempt in ("touch /usr/bin/planted", "mount -o remount,rw /", "mount -o rw /dev/vda2 /mnt"):
        assert host.run(attempt).code != 0, attempt


def test_a_changed_block_of_the_root_stops_the_host(image: Image, tmp_path: Path) -> None:
    # The name that ELF gives padding: without dm-verity, nothing would notice.
    start = (image.tree / "usr/lib/systemd/systemd").read_bytes()[:4096]
    changed = with_changed_bytes(image, tmp_path / "changed", start, start[:9] + b"\x01" + start[10:])
    with Machine(changed, Hardware(cpus=1, memory_mib=1024)) as machine:
        machine.switch_on()
        assert machine.wait_for_end() == "Kernel panic"
        assert "is corrupted" in machine.console


def test_the_tpm_is_there_for_root_alone(host: Machine) -> None:
    assert host.do("stat -c '%F %U %a' /dev/tpmrm0").strip() == "character special file root 600"


def test_fsverity_works_where_content_is_kept(host: Machine) -> None:
    content = b"content\n" * 1000
    host.write("/var/lib/vmgate/content", content)
    host.do("fsverity enable /var/lib/vmgate/content")
    assert host.do("fsverity measure /var/lib/vmgate/content").startswith(f"sha256:{digest_bytes(content)} ")
    assert host.run("echo >> /var/lib/vmgate/content").code != 0


def test_the_kernel_tells_the_digests_of_what_the_store_holds(host: Machine) -> None:
    host.write("/run/digests.py", (Path(__file__).parent / "digests.py").read_bytes())
    host.do("mkdir /var/lib/vmgate/digests")
    found = json.loads(host.do(f"{PYTHON} -I /run/digests.py /var/lib/vmgate/digests", 180))
    digest = found["digest"]
    assert found["sealed"] == found["sealed again"] == [digest, "fs-verity", "kernel"]
    assert found["opened for writing"] == "Operation not permitted"
    assert len(set(found["empty"])) == 1
    # Trees of another kind are not ours: those files are read.
    assert found["salted"] == found["sha512 as sha256"] == [digest, "root-only store", ""]
    assert found["sha512"] is True
    assert found["exchanged"] == digest_bytes(b"another")
    assert found["while somebody writes"] == "Text file busy"
    assert found["memory"] == [[digest, "root-only store", ""], [digest, "root-only store", "memory"]]
    assert found["qemu"][1:] == ["dm-verity", ""]
    assert found["anybodys"] == [digest, "nothing", ""]
    assert found["device"] == "refused"
    # Its digest stays true: no read gives another byte. Whoever must know that the disk is good reads it.
    assert found["gone bad"] == ["fs-verity", "kernel"]
    assert found["read"].endswith(": Input/output error")
    assert found["repaired"] == [digest, "fs-verity", "kernel"]
    assert found["left"] == []


def test_libvirt_starts_only_after_vmgate_and_apparmor_confines_it(host: Machine) -> None:
    assert host.do("vmgate version").strip() == f"vmgate {version('vmgate')}"
    assert host.run("systemctl start libvirtd.service", 120).code != 0
    assert host.run("virsh uri", 120).code != 0
    with folder("rig-publisher") as below:
        anchor = below / "root.json"
        passphrase = below / "passphrase"
        passphrase.write_text("a rig's publisher\n")
        passphrase.chmod(0o600)
        made = run(
            "repo", "init", below / "repository", "--keys", below / "keys", "--anchor", anchor,
            VMGATE_PASSPHRASE_FILE=str(passphrase),
        )  # fmt: skip
        assert made.exit == 0, made.err
        host.write("/run/root.json", anchor.read_bytes())
    host.do("vmgate init --anchor /run/root.json", 120)
    host.do("systemctl start vmgate.service libvirtd.service", 180)
    assert host.do("virsh uri", 120).strip() == "qemu:///system"
    assert host.do("cat /proc/$(pidof libvirtd)/attr/current").strip() == "libvirtd (enforce)"
    assert "virt-aa-helper" in host.do("aa-status --enforced 2>/dev/null; aa-status")


def test_a_hung_agent_is_started_anew_and_libvirts_hook_waits_for_it(host: Machine) -> None:
    """It is stopped as a whole: neither its main loop turns, nor does it answer."""
    host.do("mkdir -p /run/systemd/system/vmgate.service.d")
    host.write("/run/systemd/system/vmgate.service.d/soon.conf", b"[Service]\nWatchdogSec=20\nTimeoutAbortSec=2\n")
    host.do("systemctl daemon-reload && systemctl restart vmgate.service", 180)
    before = host.do("systemctl show -P MainPID vmgate.service").strip()
    host.do(f"kill -STOP {before}")
    code, said = host.run("echo '<domain/>' | /etc/libvirt/hooks/qemu nobody prepare begin -", 400)
    # The new agent's no, and not that nobody answered.
    assert code == 5
    assert "error[" in said
    assert "AG003" not in said
    assert host.do("systemctl show -P MainPID vmgate.service").strip() not in {before, "0"}
    assert "Watchdog timeout" in host.do("journalctl -b -u vmgate.service --no-pager", 120)


def test_a_snapshot_goes_on_with_its_tpm_and_the_right_time(hosts: Hosts, tmp_path: Path) -> None:
    before = pcrs(hosts.second)
    hosts.second.do("echo here >/run/mark; echo there >/state/mark")
    with folder("rig-snapshot") as below:
        snapshot = hosts.second.snapshot(below / "snapshot")
        for _ in range(2):
            with Machine.restored(snapshot) as machine:
                after = pcrs(machine)
                # Programs ran since, and IMA measured those that had not run before.
                assert {**after, 10: b""} == {**before, 10: b""}
                assert machine.do("cat /run/mark /state/mark") == "here\nthere\n"
                assert abs(int(machine.do("date +%s")) - time.time()) < 30
                machine.do("rm /run/mark && tpm2_createek -c /run/ek.ctx -G rsa -u /run/ek.pub")
                machine.write("/run/mark", b"changed\n")
