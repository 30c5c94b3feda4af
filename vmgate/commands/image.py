# SPDX-License-Identifier: Apache-2.0
"""``vmgate image``: digests of files, and what the header of a disk image says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, say, show, table


@click.group("image")
def command() -> None:
    """Digests of files and the content store."""


@command.command("digest")
@click.argument("path", type=click.Path(path_type=Path))
@output_option
def digest(path: Path, output: str) -> None:
    """Print the fs-verity digest of a file, as `fsverity digest` does."""
    from content.fsverity import digest_file

    measured = digest_file(path, allow_link=True)
    text = f"sha256:{measured.fsverity}"
    show(output, {"fsverity": measured.fsverity, "length": measured.length}, lambda: click.echo(text))


@command.command("list")
@root_option
@output_option
def list_(root: Path, output: str) -> None:
    """List the images that were imported on this host, and which of its VMs have them."""
    result: dict[str, Any] = ask(root, "image/list")

    def draw() -> None:
        if result["refused"]:
            say(f"what is stored counts for nothing: {result['refused']}")
        rows = [
            [image["name"], image["length"], f"sha256:{image['fsverity']}", image["source"], " ".join(image["vms"])]
            for image in result["images"]
        ]
        table(["NAME", "BYTES", "DIGEST", "FROM", "VMS"], rows)

    show(output, result, draw)


@command.command("import")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", help="What it shall be called; else after the file.")
@root_option
@output_option
def import_(path: Path, name: str | None, root: Path, output: str) -> None:
    """Take a raw image, an ISO or a qcow2 image into the store, signed by this host's local authority.

    No other program opens it: a qcow2 image is made flat by vmgate, and one that names another file is refused.
    """
    called = name or re.sub(r"[^a-z0-9._-]", "-", path.name.lower()).strip("._-")[:63].strip("._-")
    result: dict[str, Any] = ask(root, "image/import", file=str(path.absolute()), image=called)
    text = (
        f"{result['name']}: sha256:{result['fsverity']}, {result['length']} bytes, signed as number {result['number']}"
    )
    show(output, result, lambda: say(text))


@command.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@output_option
def inspect(path: Path, output: str) -> None:
    """Tell what a disk image begins like, and what a qcow2 header names; opens nothing else, unlike `qemu-img info`.

    Exit 5 for a qcow2 image with something that vmgate does not take. That an image is good it does not say.
    """
    from hypervisor.image_file import open_image
    from hypervisor.image_formats import probe
    from hypervisor.qcow2 import MAX_HEADER, parse_header
    from hypervisor.qcow2_rules import require_plain

    with open_image(path) as image:
        head, length = image.head(MAX_HEADER), image.length
    found: dict[str, object] = {"format": probe(head), "length": length}
    header = parse_header(head) if found["format"] == "qcow2" else None
    if header is not None:
        found |= {
            "version": header.version,
            "virtual_size": header.virtual_size,
            "backing_file": header.backing_file,
            "backing_format": header.backing_format,
            "data_file": header.data_file,
            "encrypted": bool(header.encryption),
            "snapshots": header.snapshots,
            "bitmaps": header.bitmaps,
        }

    def draw() -> None:
        for name, value in found.items():
            say(f"{name.replace('_', ' ')}: {'none' if value is None else value}")

    show(output, found, draw)
    if header is not None:
        require_plain(header, length, "base", str(path))
