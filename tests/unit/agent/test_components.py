# SPDX-License-Identifier: Apache-2.0
"""What the VMM is made of is found with what keeps it so, and remembered only where a signed policy says so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.components import Component, Components
from agent.platform import digester_under
from agent.porter import Porter
from agent.vmm_images import VmmImages
from content import digest_memory, measuring
from content.digest_memory import DigestMemory
from content.fsverity import Measured, digest_bytes
from content.keeping import Ground
from content.measuring import Digester
from content.mounts import Mounts
from content.store import ContentStore
from documents.host_files import ABSENT, HostFile, HostFiles
from documents.release import Artifact, ReferenceValue, Release
from documents.security_policy import SecurityPolicy
from lab.measuring import platform

FIRMWARE = b"firmware\n" * 1000
FILES = {"/usr/bin/qemu": b"qemu", "/usr/lib/libc": b"libc"}
LISTING = HostFiles(
    root="host",
    packages=(),
    files=tuple(HostFile(path=p, fsverity=digest_bytes(d), length=len(d)) for p, d in sorted(FILES.items())),
)
NAMES = ("repository", "vmm/host-files", "vmm/firmware-code", "vmgate/hook")


class Host:
    """A host below a folder that counts as the machine, with a count of the files that were read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.store = ContentStore(folder / "store")
        self.store.add_bytes(FIRMWARE)
        self.store.add_bytes(LISTING.encode())
        for name, data in ({"/root.json": b"anchor", "/hook": b"hook"} | FILES).items():
            path = folder / name[1:]
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o644)
        descriptor = os.open(folder, os.O_RDONLY)
        mount = Mounts().of(descriptor)
        os.close(descriptor)
        assert mount is not None
        self.ground = Ground(top=folder, owner=os.getuid(), filesystems=frozenset({mount.filesystem}))
        images = VmmImages(Porter(self.store, folder / "vmm"), folder / "vmm")
        self.components = Components(self.store, folder / "root.json", folder, folder, folder / "hook", images)
        self.read: list[str] = []
        reading = measuring.digest_descriptor

        def counted(descriptor: int, path: Path) -> Measured:
            self.read.append(path.name)
            return reading(descriptor, path)

        monkeypatch.setattr(measuring, "digest_descriptor", counted)

    def find(self, memory: DigestMemory | None = None) -> dict[str, Component]:
        """What is found, by name."""
        found = self.components.find(RELEASE, Digester(memory, self.ground))
        return {component.name: component for component in found}


def _release() -> Release:
    kinds = {"vmm/host-files": "host-files", "vmm/firmware-code": "firmware-code", "vmgate/hook": "hook"}
    contents = {"vmm/host-files": LISTING.encode(), "vmm/firmware-code": FIRMWARE, "vmgate/hook": b"hook"}
    artifacts = tuple(
        Artifact(name=name, kind=kind, fsverity=digest_bytes(contents[name]), length=len(contents[name]))
        for name, kind in kinds.items()
    )
    reference = tuple(ReferenceValue(component=name, fsverity=digest_bytes(b"")) for name in NAMES)
    return replace(platform(1), artifacts=artifacts, reference=reference)


RELEASE = _release()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_each_component_is_found_with_what_keeps_it(host: Host) -> None:
    found = host.find()
    assert list(found) == list(NAMES)
    assert found["repository"].fsverity == digest_bytes(b"anchor")
    assert found["vmm/host-files"].fsverity == digest_bytes(LISTING.encode())
    assert found["vmm/firmware-code"].fsverity == digest_bytes(FIRMWARE)
    assert {component.kept for component in found.values()} == {"root-only store"}
    assert {component.taken for component in found.values()} == {""}


def test_of_several_files_the_weakest_counts(host: Host) -> None:
    (host.folder / "usr/lib/libc").chmod(0o666)
    assert host.find()["vmm/host-files"].kept == "nothing"


def test_what_is_not_there_has_nothing_to_keep(host: Host) -> None:
    (host.folder / "hook").unlink()
    (host.folder / "usr/bin/qemu").unlink()
    found = host.find()
    assert found["vmgate/hook"] == Component(name="vmgate/hook", fsverity=ABSENT)
    assert found["vmm/host-files"].differences == (("/usr/bin/qemu", digest_bytes(b"qemu"), ABSENT),)


def test_a_component_is_called_remembered_when_all_of_it_is(host: Host) -> None:
    later = max(path.stat().st_ctime_ns for path in host.folder.rglob("*")) + digest_memory.QUIET
    memory = DigestMemory(clock=lambda: later)
    host.find(memory)
    first = sorted(host.read)
    assert {component.taken for component in host.find(memory).values()} == {"memory"}
    assert sorted(host.read) == first, "nothing was read again"
    (host.folder / "usr/bin/qemu").write_bytes(b"QEMU")
    found = host.find(memory)["vmm/host-files"]
    assert found.taken == ""
    assert found.differences == (("/usr/bin/qemu", digest_bytes(b"qemu"), digest_bytes(b"QEMU")),)


@pytest.mark.parametrize(
    ("policy", "remembers"),
    [
        (None, False),
        (SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64), False),
        (SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64, digests="always"), False),
        (SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64, digests="once-per-boot"), True),
    ],
)
def test_only_a_policy_that_says_so_lets_readings_be_remembered(policy: SecurityPolicy | None, remembers: bool) -> None:
    memory = DigestMemory()
    assert digester_under(policy, memory)._memory is (memory if remembers else None)
