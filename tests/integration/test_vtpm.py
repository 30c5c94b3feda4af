# SPDX-License-Identifier: Apache-2.0
"""A VM's TPM and its endorsement key, with real swtpm and swtpm_setup: made once, known ever after, never exchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vm_errors import GuestTpmChanged, GuestTpmFailed
from agent.vtpm import STATE_FILE, GuestTpms
from content.errors import DigestMismatch
from documents.definition import Disk, VmDefinition
from documents.host_state import VmTpm
from lab.world import folder

SECRET, OTHER_SECRET = "5a" * 32, "a5" * 32
VM = VmDefinition(
    name="desk",
    uuid="3e2d9c1a-5b7f-4d21-8c3e-0123456789ab",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=64,
    disks=(Disk(name="system", image="ab" * 32, length=1, disk_class="readonly"),),
    guardians=("tpm",),
)


class Bench:
    """One VM's folders; what libvirt would keep below ``states``."""

    def __init__(self, below: Path) -> None:
        self.states, self.vm = below / "states", below / "vm"
        for place in (self.states, self.vm):
            place.mkdir(mode=0o711)
        self.tpms = GuestTpms(self.states)
        self.state = self.states / VM.uuid / "tpm2"
        self.file = self.state / STATE_FILE
        self.note = self.vm / "vtpm.json"

    def settle(self, secret: str = SECRET) -> str:
        return self.tpms.settle(VM, self.vm, secret)

    def everything(self) -> dict[str, tuple[bytes, int, int]]:
        """Name, content, owner and mode of all files."""
        files = [path for place in (self.states, self.vm) for path in place.rglob("*") if path.is_file()]
        return {str(f): (f.read_bytes(), f.lstat().st_uid, stat.S_IMODE(f.lstat().st_mode)) for f in files}


@pytest.fixture
def bench() -> Iterator[Bench]:
    with folder("vtpm") as below:
        yield Bench(below)


def test_a_tpm_is_made_once_and_known_from_then_on(bench: Bench) -> None:
    first = bench.settle()
    assert VmTpm.parse(bench.note.read_bytes()) == VmTpm(uuid=VM.uuid, endorsement=first)
    assert (bench.state.owner(), stat.S_IMODE(bench.state.stat().st_mode)) == ("tss", 0o700)
    assert (bench.file.owner(), bench.file.group()) == ("tss", "tss")
    made = bench.everything()
    assert bench.settle() == first
    assert bench.everything() == made, "reading changes nothing"
    assert sorted(path.name for path in bench.state.parent.iterdir()) == ["tpm2"], "and leaves nothing"


def test_the_digest_is_that_of_the_key_in_the_certificate_that_the_tpm_was_made_with(
    bench: Bench, tmp_path: Path
) -> None:
    """The certificate, as swtpm_setup reads it from the TPM by itself."""
    certificates = bench.vm / "certificates"
    certificates.mkdir()
    shutil.chown(certificates, "tss", "tss")
    state = bench.state
    state.mkdir(parents=True)
    shutil.chown(state, "tss", "tss")
    reader, writer = os.pipe()
    os.write(writer, SECRET.encode())
    os.close(writer)
    subprocess.run(
        [
            "swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert", "--lock-nvram",
            "--pwdfile-fd", str(reader), "--cipher", "aes-256-cbc", "--write-ek-cert-files", certificates,
        ],
        pass_fds=[reader], user="tss", group="tss", extra_groups=[], check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    os.close(reader)
    (written,) = certificates.glob("*rsa2048*")
    key = x509.load_der_x509_certificate(written.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # A state that libvirt made for an older vmgate is taken as it is, and noted.
    assert bench.settle() == hashlib.sha256(spki).hexdigest()


def swapped(bench: Bench, below: Path) -> None:
    """Another TPM, made with the VM's own key: only its endorsement key tells."""
    below.mkdir(mode=0o711)
    other = Bench(below)
    other.settle()
    shutil.copyfile(other.file, bench.file)


def test_a_tpm_with_another_endorsement_key_is_refused(bench: Bench) -> None:
    first = bench.settle()
    swapped(bench, bench.vm / "other")
    before = bench.everything()
    with pytest.raises(GuestTpmChanged) as refused:
        bench.settle()
    assert first in refused.value.cause
    assert bench.everything() == before


def test_a_tpm_that_is_gone_is_not_made_anew(bench: Bench) -> None:
    """libvirt would make another one in silence."""
    bench.settle()
    shutil.rmtree(bench.state)
    before = bench.everything()
    with pytest.raises(GuestTpmChanged, match="gone"):
        bench.settle()
    assert bench.everything() == before


def test_a_tpm_that_was_given_up_is_another_one(bench: Bench) -> None:
    first = bench.settle()
    shutil.rmtree(bench.state)
    bench.note.unlink()
    assert bench.settle() != first


def test_the_note_of_another_vm_is_refused(bench: Bench) -> None:
    first = bench.settle()
    bench.note.write_bytes(VmTpm(uuid="00000000-0000-4000-8000-000000000000", endorsement=first).encode())
    with pytest.raises(GuestTpmChanged, match="another"):
        bench.settle()


@pytest.mark.parametrize(
    "damage", ["another key", "cut off", "empty", "garbage", "a link", "a FIFO", "a second name", "huge"]
)
def test_a_state_that_does_not_open_is_refused(bench: Bench, damage: str) -> None:
    bench.settle()
    whole = bench.file.read_bytes()
    elsewhere = bench.vm / "elsewhere"
    elsewhere.write_bytes(whole)
    if damage in ("a link", "a FIFO", "a second name"):
        bench.file.unlink()
    if damage == "a link":
        bench.file.symlink_to(elsewhere)
    elif damage == "a FIFO":
        os.mkfifo(bench.file)
    elif damage == "a second name":
        bench.file.hardlink_to(elsewhere)
    else:
        new = {"cut off": whole[:-1], "empty": b"", "garbage": os.urandom(len(whole)), "huge": bytes(1_000_001)}
        bench.file.write_bytes(new.get(damage, whole))
    with pytest.raises(GuestTpmFailed):
        bench.settle(OTHER_SECRET if damage == "another key" else SECRET)
    assert sorted(path.name for path in bench.state.parent.iterdir()) == ["tpm2"]


def test_a_state_that_root_put_back_opens(bench: Bench) -> None:
    first = bench.settle()
    shutil.chown(bench.file, "root", "root")
    assert bench.settle() == first


def test_a_cut_while_it_is_made_leaves_no_half_of_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(source: Path, target: Path) -> None:
        raise DigestMismatch("cut", expected="a", found="b")

    with monkeypatch.context() as patch:
        patch.setattr("agent.vtpm.durable.rename", cut)
        with pytest.raises(DigestMismatch):
            bench.settle()
    assert not bench.state.exists()
    assert not bench.note.exists()
    bench.settle()
    assert sorted(path.name for path in bench.state.parent.iterdir()) == ["tpm2"]


def test_a_cut_between_the_making_and_the_note_is_made_good(bench: Bench) -> None:
    first = bench.settle()
    bench.note.unlink()
    assert bench.settle() == first
    assert bench.note.exists()


def test_without_swtpm_nothing_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bench.vm))
    with pytest.raises(GuestTpmFailed):
        bench.settle()
    assert not bench.state.exists()
