# SPDX-License-Identifier: Apache-2.0
"""Our reading of headers beside QEMU's own, on images that ``qemu-img`` makes here: nothing unverified is opened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hypervisor.errors import ChainRefused, Qcow2Refused
from hypervisor.image_file import open_image
from hypervisor.qcow2 import MAX_HEADER, Qcow2Header, parse_header
from hypervisor.qcow2_chain import Layer, verify_chain
from hypervisor.qcow2_rules import require_plain

SIZE = 64 << 20
OPTIONS: dict[str, tuple[str, str]] = {
    "plain": ("", ""),
    "version-2": ("compat=0.10", ""),
    "clusters-512": ("cluster_size=512", ""),
    "clusters-2M": ("cluster_size=2M", ""),
    "zstd": ("compression_type=zstd", ""),
    "subclusters": ("extended_l2=on", ""),
    "lazy": ("lazy_refcounts=on", ""),
    "refcount-1": ("refcount_bits=1", ""),
    "refcount-64": ("refcount_bits=64", ""),
    "preallocated": ("preallocation=metadata", ""),
    "data-file": ("data_file={folder}/data", "external-data-file"),
    "data-file-raw": ("data_file={folder}/data,data_file_raw=on", "external-data-file"),
}
"""Options of ``qemu-img create``, and what our rules refuse of it."""


def qemu_img(*arguments: object) -> str:
    for _ in range(50):
        done = subprocess.run(["qemu-img", *map(str, arguments)], check=False, capture_output=True, text=True)
        # It counts the rounds of its key by the time that it got, and gives up on a machine that is busy.
        if "accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(qemu_img("info", "-f", "qcow2", "--output=json", path))
    return value


def read(path: Path) -> Qcow2Header:
    with open_image(path) as image:
        return parse_header(image.head(MAX_HEADER))


def compare(path: Path) -> Qcow2Header:
    """Read a header, and require that QEMU says the same of all that it tells."""
    header, qemu = read(path), told(path)
    data = qemu["format-specific"]["data"]
    assert header.virtual_size == qemu["virtual-size"]
    assert 1 << header.cluster_bits == qemu["cluster-size"]
    assert bool(header.incompatible & 1) == qemu["dirty-flag"]
    assert header.version == {"0.10": 2, "1.1": 3}[data["compat"]]
    assert ("deflate", "zstd")[header.compression] == {"zlib": "deflate"}.get(
        data["compression-type"], data["compression-type"]
    )
    assert header.refcount_bits == data["refcount-bits"]
    assert header.backing_file == qemu.get("backing-filename")
    assert header.backing_format == qemu.get("backing-filename-format")
    assert header.snapshots == len(qemu.get("snapshots", []))
    assert header.bitmaps == len(data.get("bitmaps", []))
    assert header.data_file == data.get("data-file")
    assert bool(header.encryption) == qemu.get("encrypted", False)
    if header.version == 3:
        assert bool(header.incompatible & 2) == data["corrupt"]
        assert bool(header.incompatible & 16) == data["extended-l2"]
        assert bool(header.compatible & 1) == data["lazy-refcounts"]
        assert bool(header.autoclear & 2) == data.get("data-file-raw", False)
    return header


@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_of_qemu_is_read_as_qemu_reads_it(name: str, tmp_path: Path) -> None:
    options, refused = OPTIONS[name]
    given = ("-o", options.format(folder=tmp_path)) if options else ()
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow2", *given, path, SIZE)
    header = compare(path)
    if refused:
        with pytest.raises(Qcow2Refused) as caught:
            require_plain(header, path.stat().st_size, "base", "image")
        assert caught.value.feature == refused
    else:
        require_plain(header, path.stat().st_size, "base", "image")


def changed(path: Path) -> Iterator[tuple[str, list[object]]]:
    secret = f"--object=secret,id=s,file={path.parent}/secret"
    yield "snapshots", ["snapshot", "-q", "-c", "one", path]
    yield "bitmaps", ["bitmap", "--add", path, "b"]
    options = "encrypt.format=luks,encrypt.key-secret=s"
    yield "encryption", ["create", "-q", "-f", "qcow2", secret, "-o", options, path, SIZE]


@pytest.mark.parametrize("feature", ["snapshots", "bitmaps", "encryption"])
def test_what_qemu_puts_inside_is_seen_and_refused(feature: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_img(*dict(changed(path))[feature])
    header = compare(path)
    with pytest.raises(Qcow2Refused) as caught:
        require_plain(header, path.stat().st_size, "base", "image")
    assert caught.value.feature == feature


def test_a_chain_of_qemus_is_the_declared_one_or_refused(tmp_path: Path) -> None:
    base, middle, top = (tmp_path / name for name in ("base", "middle", "top"))
    base.write_bytes(bytes(SIZE))
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", middle)
    qemu_img("create", "-q", "-f", "qcow2", "-b", middle, "-F", "qcow2", top, 2 * SIZE)
    assert compare(top).backing_file == str(middle)
    layers = (
        Layer(name=str(top), image_format="qcow2", kind="overlay", virtual_size=2 * SIZE),
        Layer(name=str(middle), image_format="qcow2", kind="base"),
        Layer(name=str(base), image_format="raw", kind="base"),
    )
    with ExitStack() as opened:
        images = [opened.enter_context(open_image(path)) for path in (top, middle, base)]
        verify_chain(layers, images, "disk")
        # QEMU turns the overlay to another file, as whoever can write to it could.
        (tmp_path / "other").write_bytes(bytes(SIZE))
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", tmp_path / "other", "-F", "raw", top)
        with pytest.raises(ChainRefused, match="other"):
            verify_chain(layers, images, "disk")
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", middle, "-F", "qcow2", top)
        verify_chain(layers, images, "disk")
