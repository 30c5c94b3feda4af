# SPDX-License-Identifier: Apache-2.0
"""``vmgate measure``: measurement logs and PCRs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, show, table

MAX_LOG = 128 * 1024 * 1024


@click.group("measure")
def command() -> None:
    """Measurement logs and PCRs."""


@command.command("show")
@root_option
@output_option
def show_(root: Path, output: str) -> None:
    """Show the PCRs that vmgate uses and the platform's verdict."""
    from vmgate.commands.vm import draw_verdict

    result: dict[str, Any] = ask(root, "measure/show")

    def draw() -> None:
        table(["PCR", "BANK", "VALUE"], [[item["pcr"], item["bank"], item["value"]] for item in result["pcrs"]])
        draw_verdict(result["verdict"], "")

    show(output, result, draw)


@command.command("log")
@root_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "cel", "cbor"]),
    default="table",
    help="Form of the result: cel and cbor are the log itself (TCG CEL) in JSON and in CBOR.",
)
def log(root: Path, output: str) -> None:
    """Show vmgate's own measurement log of this boot."""
    result: dict[str, Any] = ask(root, "measure/log")
    encoded = str(result.pop("cel")).encode()
    if output in ("cel", "cbor"):
        click.echo(encoded if output == "cel" else _in_cbor(encoded), nl=False)
        return
    rows = [[r["recnum"], r["pcr"], r["event"], r["subject"], r["target"], r["fsverity"]] for r in result["records"]]
    show(output, result, lambda: table(["NO", "PCR", "EVENT", "SUBJECT", "TARGET", "FSVERITY"], rows))


def _in_cbor(encoded: bytes) -> bytes:
    from measure.cel import parse_log
    from measure.cel_cbor import encode_log

    return encode_log(parse_log(encoded))


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--ima", is_flag=True, help="The file is an IMA list.")
@click.option("--after", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A boot log before it.")
@output_option
def replay(file: Path, *, ima: bool, after: Path | None, output: str) -> None:
    """Replay a boot log (TCG, CCEL), an IMA list, systemd's log or vmgate's own and print the PCRs it leads to."""
    from content.durable import read_file
    from measure.quirks import QUIRKS
    from measure.replay import replay_ima, replay_log

    if ima and after:
        raise click.UsageError("an IMA list starts on its own: --after is for systemd's log")
    untrusted = read_file(file, MAX_LOG)
    before = read_file(after, MAX_LOG) if after else None
    result: dict[str, Any] = (replay_ima(untrusted) if ima else replay_log(untrusted, before)).members()
    rows = [[bank, pcr, value] for bank, pcrs in result["pcrs"].items() for pcr, value in pcrs.items()]

    def draw() -> None:
        click.echo(f"{result['format']}, {result['events']} events")
        for name in result.get("quirks", ()):
            click.echo(f"accepted: {QUIRKS[name].accepted} ({name})")
        table(["BANK", "PCR", "VALUE"], rows)

    show(output, result, draw, versioned=False)


@command.command("firmware")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@output_option
def firmware(file: Path, output: str) -> None:
    """List what a boot log extends PCR 0 with, as a host image names an accepted firmware."""
    from content.durable import read_file
    from measure.bootlog import parse_boot_log
    from measure.firmware import firmware_events

    digests = firmware_events(parse_boot_log(read_file(file, MAX_LOG)))
    rows = [[str(number), digest] for number, digest in enumerate(digests, 1)]
    show(output, {"sha256": list(digests)}, lambda: table(["EVENT", "SHA-256"], rows), versioned=False)
