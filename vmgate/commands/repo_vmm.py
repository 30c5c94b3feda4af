# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo build-vmm``: the VMM image and its bill of materials, from Debian packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from publisher.vmm import VmmImage

NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("build-vmm")
@click.argument("out", type=NEW_FILE)
@click.argument("more", metavar="[PATTERN]...", nargs=-1)
@click.option("--packages", "patterns", metavar="PATTERN", multiple=True, help="Debian packages; may be repeated.")
@click.option(
    "--without",
    metavar="NAME=REASON",
    multiple=True,
    help="Leave out what a package says that it needs; may be repeated.",
)
@click.option("--bom", type=NEW_FILE, help="Write the bill of materials here (CycloneDX in JSON).")
@output_option
def command(
    out: Path, more: tuple[str, ...], patterns: tuple[str, ...], without: tuple[str, ...], bom: Path | None, output: str
) -> None:
    """Make the VMM image: QEMU, its libraries, firmware and virtual TPM in one read-only file system.

    The packages must be whole: each thing that one needs is among them, or left out by name. A pattern that the shell
    has already turned into file names will do as well.
    """
    from content.durable import write_file
    from publisher.closure import LEFT_OUT
    from publisher.vmm import build
    from publisher.vmm_bom import bill_of_materials

    image = build(_packages((*patterns, *more)), out.absolute(), {**LEFT_OUT, **_left_out(without)})
    if bom is not None:
        write_file(bom.absolute(), bill_of_materials(image), 0o644)
    show(output, _members(image), lambda: _draw(out, image))


def _packages(patterns: tuple[str, ...]) -> list[Path]:
    from publisher.patterns import matching

    what, remedy = "the VMM image was not made", "name the Debian packages that it is to be made of"
    found: set[Path] = set()
    for pattern in patterns:
        try:
            found |= matching(pattern, Path())
        except ValueError as error:
            raise UsageError(what, cause=f"--packages has {pattern!r}, {error}", remedy=remedy) from error
    if not found:
        raise UsageError(what, cause="no packages were named", remedy=remedy)
    return sorted(found)


def _left_out(options: tuple[str, ...]) -> Mapping[str, str]:
    named = {}
    for option in options:
        name, _, reason = option.partition("=")
        if not name or not reason.strip():
            raise UsageError(
                "the VMM image was not made",
                cause=f"--without has {option!r}, which is no name with a reason",
                remedy="write it as NAME=REASON",
            )
        named[name] = reason.strip()
    return named


def _members(image: VmmImage) -> dict[str, Any]:
    return {
        "fsverity": image.measured.fsverity,
        "length": image.measured.length,
        "verity": {"root_hash": image.root_hash, "offset": image.tree_offset},
        "packages": [{"name": s.package.name, "version": s.package.version, "sha256": s.sha256} for s in image.sources],
        "left_out": dict(image.closure.left_out),
    }


def _draw(out: Path, image: VmmImage) -> None:
    table(["PACKAGE", "VERSION"], [[source.package.name, source.package.version] for source in image.sources])
    for name, reason in image.closure.left_out:
        say(f"left out: {name} ({reason})")
    say(f"{out}: {image.measured.length} bytes, {len(image.sources)} packages, fsverity {image.measured.fsverity}")
    say(f"dm-verity: root hash {image.root_hash}, hash tree at byte {image.tree_offset}")
