# SPDX-License-Identifier: Apache-2.0
"""Images that are imported: what lies in the store afterwards, and what is refused before anything lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.images import take_image
from agent.vm_errors import LocalUnfit
from content.fsverity import digest_bytes
from content.store import ContentStore
from documents.errors import VmgateError
from hypervisor.errors import ImageNotRaw, ImageUnreadable, Qcow2Malformed, Qcow2Refused
from lab.qcow2 import DATA_FILE, RAW, Written, WrittenDisk

RAW_DISK = bytes(4096) + b"an ISO begins with zeros".ljust(512, b"\0") + bytes(8192)


def imported(folder: Path, data: bytes, uid: int = 0) -> tuple[ContentStore, bytes]:
    """Import a file; returns the store and what lies in it."""
    path = folder / "image"
    path.write_bytes(data)
    store = ContentStore(folder / "store")
    image = take_image(path, "debian", uid, store)
    held = store.path(image.fsverity).read_bytes()
    assert (image.fsverity, image.length, image.name) == (digest_bytes(held), len(held), "debian")
    return store, held


def refused(folder: Path, data: bytes, error: type[VmgateError], uid: int = 0) -> VmgateError:
    with pytest.raises(error) as caught:
        imported(folder, data, uid)
    assert ContentStore(folder / "store").items() == (), "nothing lies in the store"
    return caught.value


def test_a_raw_image_is_taken_as_it_is(tmp_path: Path) -> None:
    assert imported(tmp_path, RAW_DISK)[1] == RAW_DISK


def test_holes_stay_holes_and_are_measured_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**24)
        file.seek(2**23)
        file.write(b"middle")
    store = ContentStore(tmp_path / "store")
    image = take_image(path, "sparse", 0, store)
    assert store.path(image.fsverity).read_bytes() == path.read_bytes()
    assert image.fsverity == digest_bytes(path.read_bytes())


def test_a_qcow2_image_is_made_flat(tmp_path: Path) -> None:
    disk = WrittenDisk(size=4 * 512, clusters={1: b"b" * 512, 2: b"c" * 512}, compressed=frozenset({2}))
    assert imported(tmp_path, disk.encode())[1] == bytes(512) + b"b" * 512 + b"c" * 512 + bytes(512)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (Written(name=b"/etc/shadow", extensions=(RAW,)).encode().ljust(0x31000, b"\0"), Qcow2Refused),
        (Written(extensions=(DATA_FILE,), incompatible=4).encode().ljust(0x31000, b"\0"), Qcow2Refused),
        (Written(encryption=1).encode().ljust(0x31000, b"\0"), Qcow2Refused),
        (WrittenDisk(size=512, entries={0: 1 << 40}).encode(), Qcow2Malformed),
        (b"QFI\xfb" + bytes(508), Qcow2Malformed),
        (b"KDMV" + bytes(508), ImageNotRaw),
        (b"# Disk DescriptorFile\nversion=1\n".ljust(512), ImageNotRaw),
        (b"root:x:0:0\n", LocalUnfit),
        (b"", LocalUnfit),
    ],
)
def test_what_names_other_files_or_is_no_disk_is_refused(tmp_path: Path, data: bytes, error: type[VmgateError]) -> None:
    refused(tmp_path, data, error)


def test_an_image_inside_an_image_is_not_used(tmp_path: Path) -> None:
    """A qcow2 image whose disk begins like another format: a program that guesses would follow that."""
    disk = WrittenDisk(size=1024, clusters={0: b"KDMV".ljust(512, b"\0")})
    with pytest.raises(ImageNotRaw):
        imported(tmp_path, disk.encode())


def test_nobody_reads_by_the_agent_what_is_anothers(tmp_path: Path) -> None:
    error = refused(tmp_path, RAW_DISK, LocalUnfit, uid=os.getuid() + 1)
    assert "belongs to user" in error.cause
    imported(tmp_path, RAW_DISK, uid=os.getuid())


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    (tmp_path / "real").write_bytes(RAW_DISK)
    if kind == "link":
        path.symlink_to(tmp_path / "real")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ImageUnreadable):
        take_image(path, "debian", 0, ContentStore(tmp_path / "store"))


def test_the_store_keeps_what_it_is_told_and_everything_where_nobody_knows(tmp_path: Path) -> None:
    store, held = imported(tmp_path, RAW_DISK)
    digest = digest_bytes(held)
    other = store.add_bytes(b"other").fsverity
    store.keepers.append(lambda: frozenset({digest}))
    store.keepers.append(lambda: None)
    assert store.gc(set()) == []
    store.keepers.pop()
    assert store.gc(set()) == [other]
    store.keepers.clear()
    assert store.gc(set()) == [digest]


@pytest.mark.parametrize("parts", [[(1024, b"a")], [(10, b"a"), (5, b"b")], [(0, b"aa"), (1, b"b")], [(511, b"aa")]])
def test_parts_out_of_their_place_are_a_mistake_of_the_caller(tmp_path: Path, parts: list[tuple[int, bytes]]) -> None:
    store = ContentStore(tmp_path / "store")
    with pytest.raises(ValueError, match="out of its place"):
        store.add_parts(parts, 512)
    assert store.items() == ()
