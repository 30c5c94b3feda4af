# SPDX-License-Identifier: Apache-2.0
"""An image that is mounted, and all that can take its place: the kernel's own word tells them apart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from content import image_mount
from content.errors import StorageFailed

NEVER = Path("/nothing/here")


class Bench:
    """Two images in a folder, and a folder to mount on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "place"
        self.place.mkdir()
        self.image, self.other = (self._make(folder, name) for name in ("image", "other"))

    @staticmethod
    def _make(folder: Path, name: str) -> Path:
        tree = folder / f"{name}.tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/program").write_text(name * 2000)
        subprocess.run(["mkfs.erofs", "--quiet", folder / f"{name}.img", tree], check=True)
        return folder / f"{name}.img"

    def mount(self, *arguments: str | Path) -> None:
        subprocess.run(["mount", *arguments, self.place], check=True)

    def flaw(self) -> str:
        return image_mount.flaw(self.image, self.place)

    def clear(self) -> None:
        while image_mount.is_mounted(self.place):
            subprocess.run(["umount", "-R", "-l", self.place], check=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    try:
        yield bench
    finally:
        bench.clear()


def test_what_was_mounted_is_all_of_the_image_and_nobody_can_write_to_it(bench: Bench) -> None:
    assert bench.flaw() == "nothing is mounted"
    image_mount.mount(bench.image, bench.place)
    assert bench.flaw() == ""
    assert (bench.place / "bin/program").read_text() == "image" * 2000
    with pytest.raises(OSError, match="Read-only file system"):
        (bench.place / "bin/program").write_text("x")
    assert image_mount.unmount(bench.place)
    assert bench.flaw() == "nothing is mounted"


def test_the_loop_device_goes_with_the_mount(bench: Bench) -> None:
    def mine() -> str:
        return subprocess.run(["losetup", "-j", bench.image], check=True, capture_output=True, text=True).stdout

    image_mount.mount(bench.image, bench.place)
    assert len(mine().splitlines()) == 1
    image_mount.unmount(bench.place)
    assert mine() == ""


def test_what_is_in_use_stays(bench: Bench) -> None:
    image_mount.mount(bench.image, bench.place)
    with (bench.place / "bin/program").open():
        assert not image_mount.unmount(bench.place)
        assert bench.flaw() == ""


def test_another_image_is_not_the_image(bench: Bench) -> None:
    image_mount.mount(bench.other, bench.place)
    assert bench.flaw() == "it is mounted from another file"


def test_the_same_bytes_in_another_file_are_not_the_image(bench: Bench) -> None:
    copy = bench.folder / "copy.img"
    copy.write_bytes(bench.image.read_bytes())
    image_mount.mount(copy, bench.place)
    assert bench.flaw() == "it is mounted from another file"


def test_an_image_whose_file_was_exchanged_is_another_one(bench: Bench) -> None:
    image_mount.mount(bench.image, bench.place)
    bench.other.replace(bench.image)
    assert bench.flaw() == "it is mounted from another file"


def test_what_lies_over_the_image_or_over_a_file_in_it_is_seen(bench: Bench) -> None:
    image_mount.mount(bench.image, bench.place)
    program = bench.place / "bin/program"
    subprocess.run(["mount", "--bind", "/bin/true", program], check=True)
    assert bench.flaw() == f"something else is mounted at {program}"
    subprocess.run(["umount", program], check=True)
    assert bench.flaw() == ""
    image_mount.mount(bench.image, bench.place)
    assert bench.flaw() == f"something else is mounted at {bench.place}"


@pytest.mark.parametrize(
    ("arguments", "flaw"),
    [
        (("--bind", "{folder}/other.tree"), " is mounted"),
        (("-t", "tmpfs", "tmpfs"), "tmpfs from / is mounted"),
        (("-t", "erofs", "-o", "loop,rw", "{folder}/image.img"), "it is mounted to be written to"),
    ],
    ids=["folder", "tmpfs", "for writing"],
)
def test_other_mounts_are_seen(bench: Bench, arguments: tuple[str, ...], flaw: str) -> None:
    bench.mount(*(argument.format(folder=bench.folder) for argument in arguments))
    assert bench.flaw().endswith(flaw)


def test_a_part_of_the_image_over_its_own_place_is_not_all_of_it(bench: Bench) -> None:
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    image_mount.mount(bench.image, elsewhere)
    try:
        bench.mount("--bind", elsewhere / "bin")
        assert bench.flaw() == "erofs from /bin is mounted"
    finally:
        bench.clear()
        image_mount.unmount(elsewhere)


def test_what_is_no_image_is_not_mounted(bench: Bench) -> None:
    bench.image.write_bytes(bytes(100_000))
    with pytest.raises(StorageFailed, match="the image was not mounted"):
        image_mount.mount(bench.image, bench.place)
    assert bench.flaw() == "nothing is mounted"


def test_without_the_file_or_the_folder_nothing_is_right(bench: Bench) -> None:
    image_mount.mount(bench.image, bench.place)
    assert "No such file" in image_mount.flaw(NEVER, bench.place)
    assert "No such file" in image_mount.flaw(bench.image, NEVER)
