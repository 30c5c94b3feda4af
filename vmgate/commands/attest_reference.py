# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest reference`` and ``vmgate attest corim``: reference values for verifiers that are not ours."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from documents.canonical import Json
    from documents.host_image import HostImage
    from documents.release import Release
    from measure.corim import Environment

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
MAX_KEY = 10_000


@click.command("reference")
@click.argument("releases", type=FILE, nargs=-1, required=True)
@click.option("--host-image", "images", type=FILE, multiple=True, help="A release's host image, to tell its files too.")
@click.option("--signing-key", type=FILE, help="P-256 or P-384 private key, PEM: sign the CoRIM.")
@click.option("--signer", default="vmgate", show_default=True, help="Who signs, for people.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not standard output.")
@click.option("-o", "--output", type=click.Choice(["cbor", "json"]), default="json", help="CoRIM, or the same in JSON.")
def reference(
    *,
    releases: tuple[Path, ...],
    images: tuple[Path, ...],
    signing_key: Path | None,
    signer: str,
    out: Path | None,
    output: str,
) -> None:
    """Tell the reference values of platform releases, one set for each, as a CoRIM or as JSON."""
    from content.durable import read_file, write_file
    from documents.canonical import encode
    from documents.host_image import HostImage
    from documents.release import Release
    from measure.corim import encode_corim, sign_corim

    if signing_key is not None and output != "cbor":
        raise UsageError("nothing was signed", cause="only a CoRIM is", remedy="give -o cbor, or no --signing-key")
    sets = _sets(
        [Release.parse(read_file(path, Release.LIMIT)) for path in releases],
        [HostImage.parse(read_file(path, HostImage.LIMIT)) for path in images],
    )
    data = encode_corim(sets)
    if output == "json":
        data = encode({"environments": [_members(entry) for entry in sets]}) + b"\n"
    elif signing_key is not None:
        data = sign_corim(data, read_file(signing_key, MAX_KEY), signer)
    if out is not None:
        write_file(out.absolute(), data, 0o644)
    elif output == "cbor" and sys.stdout.isatty():
        raise UsageError("nothing was printed", cause="a terminal does not take CBOR", remedy="give --out FILE")
    else:
        click.echo(data, nl=False)


@click.command("corim")
@click.argument("file", type=FILE)
@click.option("--key", type=FILE, help="Public key, PEM, of whom you trust for reference values.")
@click.option(
    "--from-verified-target",
    "verified",
    is_flag=True,
    help="It has no signature of its own, and you have verified its bytes in another way, as a TUF target.",
)
@output_option
def corim(*, file: Path, key: Path | None, verified: bool, output: str) -> None:
    """Read a CoRIM of vmgate's profile: one set of reference values for each release; exit 5 unless you trust it."""
    from content.durable import read_file
    from measure.corim_reader import LIMIT, read_corim_of_verified_target, read_signed_corim

    if (key is None) == (not verified):
        raise UsageError(
            "nothing was read",
            cause="whom to believe is not clear",
            remedy="give either --key or --from-verified-target",
        )
    data, now = read_file(file, LIMIT), int(time.time())
    sets = (
        read_corim_of_verified_target(data, now)
        if key is None
        else read_signed_corim(data, read_file(key, MAX_KEY), now)
    )

    def draw() -> None:
        for entry in sets:
            say(f"{entry.channel}/{entry.number}: {len(entry.registers)} states, {len(entry.files)} files")
            table(["COMPONENT", "FSVERITY"], [[value.component, value.fsverity] for value in entry.components])

    show(output, {"environments": [_members(entry) for entry in sets]}, draw)


def _sets(releases: list[Release], images: list[HostImage]) -> list[Environment]:
    """One set for each release, with its host image where that was given."""
    from content.fsverity import digest_bytes
    from measure.corim import environment

    known = {digest_bytes(image.encode()): image for image in images}
    sets = []
    for release in releases:
        artifact = release.artifact("host/image")
        sets.append(environment(release, known.pop(artifact.fsverity, None) if artifact else None))
    if known:
        raise UsageError(
            "no reference values were told",
            cause="a host image is of none of the releases",
            remedy="give the image that the release names, or none",
        )
    return sets


def _members(entry: Environment) -> dict[str, Json]:
    return {
        "channel": entry.channel,
        "number": entry.number,
        "components": [value.members() for value in entry.components],
        "registers": [
            {
                "entry": registers.entry,
                "predecessor": registers.predecessor,
                "pcrs": {str(index): value for index, value in registers.pcrs},
            }
            for registers in entry.registers
        ],
        "boot": dict(entry.boot),
        "files": [file.members() for file in entry.files],
    }
