# SPDX-License-Identifier: Apache-2.0
"""``vmgate image inspect``: what a header says, told without opening what it names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab import command
from lab.command import refused
from lab.qcow2 import DATA_FILE, RAW, Written


def written(folder: Path, image: Written) -> Path:
    path = folder / "image"
    path.write_bytes(image.encode().ljust(0x40000, b"\0"))
    return path


def test_a_raw_image(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1024))
    done = command.run("image", "inspect", tmp_path / "disk")
    assert (done.exit, done.out) == (0, "format: raw\nlength: 1024\n")


def test_a_plain_qcow2_image_over_another(tmp_path: Path) -> None:
    path = written(tmp_path, Written(name=b"base.img", extensions=(RAW,)))
    done = command.run("image", "inspect", path, "-o", "json")
    assert done.exit == 0
    told = json.loads(done.out)
    assert (told["format"], told["virtual_size"]) == ("qcow2", 1 << 20)
    assert (told["backing_file"], told["backing_format"], told["data_file"]) == ("base.img", "raw", None)


def test_what_an_attacker_names_is_told_and_not_opened(tmp_path: Path) -> None:
    """The named file is a pipe: whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "named")
    named = str(tmp_path / "named").encode()
    path = written(tmp_path, Written(name=named, incompatible=4, extensions=(RAW, (DATA_FILE[0], named))))
    done = command.run("image", "inspect", path)
    assert f"data file: {tmp_path}/named\n" in done.out
    assert "external data file" in refused(done, 5).cause


def test_what_is_no_image(tmp_path: Path) -> None:
    path = written(tmp_path, Written(version=4))
    refused(command.run("image", "inspect", path), 5)
    refused(command.run("image", "inspect", tmp_path / "none"), 5)
    refused(command.run("image", "inspect", tmp_path), 5)
