# SPDX-License-Identifier: Apache-2.0
"""A disk's images stand on each other exactly as declared, or none of them is used."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hypervisor.errors import ChainRefused, HypervisorError, ImageNotRaw, ImageUnreadable, Qcow2Refused
from hypervisor.image_file import ImageFile, open_image, require_raw_file
from hypervisor.qcow2_chain import MAX_DEPTH, Layer, verify_chain
from lab.qcow2 import DATA_FILE, QCOW2, RAW, Written

SIZE = 1 << 20
BASE = Layer(name="/store/base", image_format="raw", kind="base")
MIDDLE = Layer(name="/vms/middle", image_format="qcow2", kind="base")
TOP = Layer(name="/vms/top", image_format="qcow2", kind="overlay", virtual_size=SIZE)
CHAIN = (TOP, MIDDLE, BASE)


@dataclass
class Image:
    """An image in memory, that counts how often it is read."""

    data: bytes
    number: int
    reads: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        return (1, self.number)

    @property
    def length(self) -> int:
        return len(self.data)

    def head(self, length: int) -> bytes:
        self.reads += 1
        return self.data[:length]


def qcow2(image: Written) -> bytes:
    return image.encode().ljust(0x40000, b"\0")


ON_MIDDLE = Written(name=b"/vms/middle", extensions=(QCOW2,))
ON_BASE = Written(name=b"/store/base", extensions=(RAW,))
CONTENT = (qcow2(ON_MIDDLE), qcow2(ON_BASE), bytes(SIZE))


def images(*content: bytes) -> tuple[Image, ...]:
    return tuple(Image(data, number) for number, data in enumerate(content))


def test_a_chain_as_declared_is_taken_and_each_image_is_read_once() -> None:
    opened = images(*CONTENT)
    headers = verify_chain(CHAIN, opened, "disk system")
    assert [header and header.backing_file for header in headers] == ["/vms/middle", "/store/base", None]
    assert [image.reads for image in opened] == [1, 1, 1]


def test_one_raw_image_is_a_chain() -> None:
    assert verify_chain((BASE,), images(bytes(512)), "disk") == (None,)


WRONG: dict[str, tuple[type[HypervisorError], tuple[bytes, ...]]] = {
    "another-file": (ChainRefused, (qcow2(replace(ON_MIDDLE, name=b"/etc/shadow")), *CONTENT[1:])),
    "same-file-spelled-otherwise": (ChainRefused, (qcow2(replace(ON_MIDDLE, name=b"/vms/./middle")), *CONTENT[1:])),
    "relative": (ChainRefused, (qcow2(replace(ON_MIDDLE, name=b"middle")), *CONTENT[1:])),
    "json": (ChainRefused, (qcow2(replace(ON_MIDDLE, name=b'json:{"driver":"file"}')), *CONTENT[1:])),
    "network": (ChainRefused, (qcow2(replace(ON_MIDDLE, name=b"nbd://192.0.2.1/x")), *CONTENT[1:])),
    "names-none": (ChainRefused, (qcow2(Written()), *CONTENT[1:])),
    "middle-skips": (ChainRefused, (CONTENT[0], qcow2(Written()), CONTENT[2])),
    "format-raw-for-qcow2": (ChainRefused, (qcow2(replace(ON_MIDDLE, extensions=(RAW,))), *CONTENT[1:])),
    "format-missing": (Qcow2Refused, (qcow2(replace(ON_MIDDLE, extensions=())), *CONTENT[1:])),
    "format-qcow2-for-raw": (ChainRefused, (CONTENT[0], qcow2(replace(ON_BASE, extensions=(QCOW2,))), CONTENT[2])),
    "data-file": (Qcow2Refused, (qcow2(replace(ON_MIDDLE, extensions=(QCOW2, DATA_FILE))), *CONTENT[1:])),
    "data-file-below": (
        Qcow2Refused, (CONTENT[0], qcow2(replace(ON_BASE, extensions=(RAW, DATA_FILE))), CONTENT[2]),
    ),
    "raw-base-begins-like-qcow2": (ImageNotRaw, (*CONTENT[:2], qcow2(Written(name=b"/etc/shadow")))),
    "top-is-another-size": (ChainRefused, (qcow2(replace(ON_MIDDLE, size=2 * SIZE)), *CONTENT[1:])),
    "middle-is-larger": (ChainRefused, (CONTENT[0], qcow2(replace(ON_BASE, size=2 * SIZE)), CONTENT[2])),
    "base-is-larger": (ChainRefused, (*CONTENT[:2], bytes(SIZE + 512))),
    "one-missing": (ChainRefused, CONTENT[:2]),
    "one-more": (ChainRefused, (*CONTENT, bytes(512))),
    "none": (ChainRefused, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_chain_that_is_another_is_refused(name: str) -> None:
    error, content = WRONG[name]
    with pytest.raises(error) as caught:
        verify_chain(CHAIN, images(*content), "disk system")
    line = caught.value.line()
    assert "disk system" in line
    assert line.isprintable()


def test_an_image_that_stands_on_itself_is_refused() -> None:
    loop = Layer(name="/vms/top", image_format="qcow2", kind="overlay")
    content = qcow2(Written(name=b"/vms/top", extensions=(QCOW2,)))
    with pytest.raises(ChainRefused, match="twice"):
        verify_chain((loop, loop), (Image(content, 1), Image(content, 1)), "disk")
    # Alone it names what was not declared.
    with pytest.raises(ChainRefused, match="and nothing is declared"):
        verify_chain((loop,), (Image(content, 1),), "disk")


def test_the_last_image_names_nothing() -> None:
    with pytest.raises(ChainRefused):
        verify_chain((TOP,), images(CONTENT[0]), "disk")


def test_a_chain_has_a_bound() -> None:
    layers, content = [], []
    for number in range(MAX_DEPTH):
        layers.append(Layer(name=f"/{number}", image_format="qcow2", kind="base"))
        content.append(qcow2(Written(name=f"/{number + 1}".encode(), extensions=(QCOW2,))))
    content[-1] = qcow2(Written())
    verify_chain(layers, images(*content), "disk")
    content[-1] = qcow2(Written(name=f"/{MAX_DEPTH}".encode(), extensions=(RAW,)))
    layers.append(Layer(name=f"/{MAX_DEPTH}", image_format="raw", kind="base"))
    with pytest.raises(ChainRefused, match="9 images"):
        verify_chain(layers, images(*content, bytes(SIZE)), "disk")
    with pytest.raises(ChainRefused):
        verify_chain((), (), "disk")


@pytest.mark.parametrize("change", [{"name": ""}, {"name": "nbd:x"}, {"name": "json:{}"}, {"image_format": "luks"}])
def test_what_no_disk_can_be_is_not_declared(change: dict[str, str]) -> None:
    with pytest.raises(ChainRefused):
        verify_chain((replace(BASE, **change),), images(bytes(512)), "disk")  # type: ignore[arg-type]


def test_files_are_read_by_their_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("top", "middle", "base")]
    for path, data in zip(paths, CONTENT, strict=True):
        path.write_bytes(data)
    with open_image(paths[0]) as top, open_image(paths[1]) as middle, open_image(paths[2]) as base:
        # Whoever exchanges the names now changes nothing of what was opened.
        paths[0].unlink()
        paths[0].write_bytes(qcow2(Written(name=b"/etc/shadow", extensions=(RAW,))))
        verify_chain(CHAIN, (top, middle, base), "disk")
    (tmp_path / "hard").hardlink_to(paths[1])
    with (
        open_image(paths[1]) as one,
        open_image(tmp_path / "hard") as other,
        pytest.raises(ChainRefused, match="twice"),
    ):
        verify_chain((TOP, MIDDLE), (one, other), "disk")


def test_links_devices_pipes_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(512))
    (tmp_path / "link").symlink_to("image")
    os.mkfifo(tmp_path / "pipe")
    require_raw_file(tmp_path / "image", "image")
    for path in (tmp_path / "link", tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/null")):
        with pytest.raises(ImageUnreadable) as caught:
            require_raw_file(path, "image")
        assert str(path) in caught.value.line()


def test_a_descriptor_that_cannot_be_read_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(512))
    descriptor = os.open(tmp_path / "image", os.O_WRONLY)
    image = ImageFile(descriptor, tmp_path / "image")
    with pytest.raises(ImageUnreadable):
        image.head(512)
    os.close(descriptor)
    with pytest.raises(ImageUnreadable):
        ImageFile(descriptor, tmp_path / "image")
