# SPDX-License-Identifier: Apache-2.0
"""``vmgate image``: digests of files, and what the header of a disk image says."""

from __future__ import annotations

from pathlib import Path

import click

from vmgate.output import output_option, say, show


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
