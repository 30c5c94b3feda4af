# SPDX-License-Identifier: Apache-2.0
"""Files that are about to be used: asked from the kernel, remembered where that is allowed, else read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from content import measuring, verity_ioctl
from content.digest_memory import MOST, QUIET, DigestMemory, this_boot
from content.errors import DigestMismatch, Missing, StorageFailed
from content.fsverity import Measured, digest_bytes
from content.keeping import Ground
from content.measuring import Digester, Taken
from content.mounts import Mounts

DATA = b"image\n" * 10_000
DIGEST = digest_bytes(DATA)


class Boot:
    """A boot that may end, and a machine that may sleep."""

    def __init__(self) -> None:
        self.name = "first"
        self.slept = 0.0
        self.known = True

    def __call__(self) -> tuple[str, float]:
        if not self.known:
            raise FileNotFoundError("/proc is not there")
        return self.name, self.slept


class Host:
    """A file, who may change it, and how often it was read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "store/image"
        self.path.parent.mkdir(mode=0o755)
        self.path.write_bytes(DATA)
        self.path.chmod(0o444)
        descriptor = os.open(folder, os.O_RDONLY)
        mount = Mounts().of(descriptor)
        os.close(descriptor)
        assert mount is not None
        self.ground = Ground(top=folder, owner=os.getuid(), filesystems=frozenset({mount.filesystem}))
        self.boot = Boot()
        self.later = 2 * QUIET
        self.memory = DigestMemory(self.boot, lambda: self.path.stat().st_ctime_ns + self.later)
        self.read = 0
        reading = measuring.digest_descriptor

        def counted(descriptor: int, path: Path) -> Measured:
            self.read += 1
            return reading(descriptor, path)

        monkeypatch.setattr(measuring, "digest_descriptor", counted)

    def take(self) -> Taken:
        """Measure with the memory."""
        return Digester(self.memory, self.ground).measure(self.path)

    def replace(self, data: bytes) -> None:
        """Put another file in its place."""
        other = self.path.with_name("other")
        other.write_bytes(data)
        other.chmod(0o444)
        other.rename(self.path)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


READ = Taken(fsverity=DIGEST, length=len(DATA), kept="root-only store", taken="")
REMEMBERED = Taken(fsverity=DIGEST, length=len(DATA), kept="root-only store", taken="memory")


def test_without_a_memory_each_measurement_reads(host: Host) -> None:
    assert [Digester(ground=host.ground).measure(host.path) for _ in range(2)] == [READ, READ]
    assert host.read == 2


def test_with_a_memory_a_file_is_read_once_in_a_boot(host: Host) -> None:
    assert [host.take() for _ in range(3)] == [READ, REMEMBERED, REMEMBERED]
    assert host.read == 1


def test_another_boot_and_sleep_end_the_memory(host: Host) -> None:
    assert host.take() == READ
    host.boot.name = "second"
    assert [host.take(), host.take()] == [READ, REMEMBERED]
    host.boot.slept = 60.0
    assert [host.take(), host.take()] == [READ, REMEMBERED]
    host.boot.slept = 60.0001
    assert host.take() == REMEMBERED, "the two clocks are not read at one moment"


def test_a_boot_that_is_not_known_remembers_nothing(host: Host) -> None:
    host.take()
    host.boot.known = False
    assert [host.take(), host.take()] == [READ, READ]
    host.boot.known = True
    assert host.take() == READ, "what was known before is gone"


def in_place(host: Host) -> None:
    """Write a byte and set the times back."""
    status = host.path.stat()
    host.path.chmod(0o644)
    with host.path.open("r+b") as file:
        file.write(b"I")
    host.path.chmod(0o444)
    os.utime(host.path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Host], object]] = {
    "in place, with its times set back": in_place,
    "another file of its name": lambda host: host.replace(b"I" + DATA[1:]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_read_and_refused(host: Host, change: Callable[[Host], object]) -> None:
    assert host.take() == READ
    change(host)
    assert host.take().fsverity == digest_bytes(b"I" + DATA[1:])
    with pytest.raises(DigestMismatch):
        Digester(host.memory, host.ground).verify(host.path, DIGEST, len(DATA))


WEAK: dict[str, Callable[[Host], object]] = {
    "others may write to it": lambda host: host.path.chmod(0o666),
    "others may exchange it": lambda host: host.path.parent.chmod(0o777),
    "it has a second name": lambda host: host.path.with_name("other").hardlink_to(host.path),
}


@pytest.mark.parametrize("weaken", WEAK.values(), ids=WEAK)
def test_what_others_may_change_is_neither_remembered_nor_recalled(
    host: Host, weaken: Callable[[Host], object]
) -> None:
    host.take()
    weaken(host)
    for _ in range(2):
        taken = host.take()
        assert (taken.fsverity, taken.kept, taken.taken) == (DIGEST, "nothing", "")


def test_a_file_that_was_just_written_is_not_remembered(host: Host) -> None:
    host.later = QUIET - 1
    assert [host.take(), host.take()] == [READ, READ]


def test_a_file_that_somebody_can_still_write_to_is_not_remembered(host: Host) -> None:
    host.path.chmod(0o644)
    with host.path.open("r+b"):
        host.path.chmod(0o444)
        assert [host.take(), host.take()] == [READ, READ]
    assert [host.take(), host.take()] == [READ, REMEMBERED]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = measuring.digest_descriptor

    def disturbed(descriptor: int, path: Path) -> Measured:
        measured = reading(descriptor, path)
        in_place(host)
        return measured

    monkeypatch.setattr(measuring, "digest_descriptor", disturbed)
    host.take()
    monkeypatch.setattr(measuring, "digest_descriptor", reading)
    assert host.take().fsverity == digest_bytes(b"I" + DATA[1:])


def test_the_memory_does_not_grow_without_end(host: Host) -> None:
    host.take()
    host.memory._known.update({(0, number, 0, 0, 0): "" for number in range(MOST)})
    host.replace(DATA)
    host.take()
    assert len(host.memory._known) == 1


def test_the_kernel_is_asked_first_and_its_word_needs_no_reading(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FILESYSTEMS", host.ground.filesystems)
    asked = []

    def told(descriptor: int, length: int, algorithm: int) -> str:
        asked.append((os.fstat(descriptor).st_ino, length, algorithm))
        return DIGEST

    monkeypatch.setattr(measuring, "kernel_digest", told)
    digester = Digester(ground=host.ground)
    assert digester.measure(host.path) == Taken(fsverity=DIGEST, length=len(DATA), kept="fs-verity", taken="kernel")
    assert asked == [(host.path.stat().st_ino, len(DATA), 1)]
    host.path.parent.chmod(0o777)
    assert digester.measure(host.path).kept == "nothing"
    with pytest.raises(DigestMismatch) as refused:
        digester.verify(host.path, digest_bytes(b"x"), len(DATA))
    assert refused.value.found == DIGEST
    assert host.read == 0


def test_only_a_file_systems_own_code_is_asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FILESYSTEMS", frozenset[str]())
    monkeypatch.setattr(measuring, "kernel_digest", lambda *_: digest_bytes(b"what a file server says"))
    assert Digester(ground=host.ground).measure(host.path) == READ
    assert not verity_ioctl.FILESYSTEMS & {"fuse", "overlay", "virtiofs"}


def test_another_length_is_refused_before_anything_is_read(host: Host) -> None:
    with pytest.raises(DigestMismatch) as refused:
        Digester(ground=host.ground).verify(host.path, DIGEST, len(DATA) + 1)
    assert (refused.value.expected, refused.value.found) == (f"{len(DATA) + 1} bytes", f"{len(DATA)} bytes")
    assert host.read == 0


@pytest.mark.parametrize("name", ["folder", "pipe", "link"])
def test_what_is_no_regular_file_is_refused(host: Host, name: str) -> None:
    path = host.path.with_name(name)
    {"folder": Path.mkdir, "pipe": os.mkfifo, "link": lambda it: it.symlink_to("image")}[name](path)
    with pytest.raises(StorageFailed):
        Digester(ground=host.ground).measure(path)
    with pytest.raises(StorageFailed):
        Digester(ground=host.ground).verify(path, DIGEST, len(DATA))


def test_what_is_missing_is_missing(host: Host) -> None:
    with pytest.raises(Missing):
        Digester(ground=host.ground).measure(host.path.with_name("none"))


def test_the_machine_itself_is_measured_as_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    taken = Digester(DigestMemory()).measure(tmp_path / "file")
    assert (taken.fsverity, taken.length) == (DIGEST, len(DATA))


def test_this_boot_is_the_kernels() -> None:
    boot, slept = this_boot()
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text()
    assert slept > -1
