# SPDX-License-Identifier: Apache-2.0
"""``vmgate audit``: read, follow, export and verify the audit trail; for root it works without the agent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.paths import HostPaths
from documents.audit import OUTCOMES
from vmgate.commands.host import root_option
from vmgate.output import output_option, show, table

if TYPE_CHECKING:
    from agent.audit_selection import Selection
    from documents.audit import AuditRecord

FOLLOW_SECONDS = 0.5
"""Between looks at the trail."""

BATCH = 256


def _instant(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A day, or a second, in UTC, as seconds since 1970."""
    from agent.audit_selection import seconds

    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        cause = f"{value!r} is not as 2026-11-26 or 2026-11-26T04:05:06Z, in UTC"
        raise click.BadParameter(cause, context, parameter) from error


def _selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that select records."""
    options = (
        click.option("--event", help="Only records of this event."),
        click.option("--outcome", type=click.Choice(OUTCOMES), help="Only records with this outcome."),
        click.option("--subject", help="Only records of this subject, such as a VM."),
        click.option("--since", callback=_instant, help="Only records from then on: 2026-11-26 or with THH:MM:SSZ."),
        click.option("--until", callback=_instant, help="Only records before this time."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _chosen(options: dict[str, Any]) -> Selection:
    from agent.audit_selection import Selection

    return Selection(**{name: value for name, value in options.items() if value is not None})


@click.group("audit")
def command() -> None:
    """The audit trail of this host."""


@command.command("list")
@root_option
@output_option
@_selection
@click.option("--last", type=click.IntRange(1), default=1_000_000, help="Only the last N records.")
def list_(root: Path, output: str, last: int, **options: Any) -> None:
    """List the records, oldest first; without root's rights the last 10,000 at most, from the agent."""
    from vmgate.audit_source import records

    chosen = list(_chosen(options).chosen(records(root)))[-last:]
    headings = ["NO", "TIME", "EVENT", "OUTCOME", "SUBJECT", "ACTOR", "DETAILS"]
    show(
        output,
        {"records": [record.members() for record in chosen]},
        lambda: table(headings, [_row(record) for record in chosen]),
    )


def _row(record: AuditRecord) -> list[Any]:
    from agent.offload.message import timestamp

    return [
        record.sequence,
        timestamp(record.time),
        record.event,
        record.outcome,
        record.subject,
        record.actor,
        "; ".join(f"{name}={text}" for name, text in record.details),
    ]


@command.command("follow")
@root_option
@_selection
@click.option("--from", "first", type=click.IntRange(1), help="Begin with this record; without it, with the next one.")
@click.option("--count", type=click.IntRange(1), default=2**60, help="End after so many records.")
@click.option("--json", "as_json", is_flag=True, help="One record a line, as the trail has it.")
def follow(root: Path, first: int | None, count: int, as_json: bool, **options: Any) -> None:
    """Show records as they are written, until interrupted."""
    from agent.audit import read_head
    from agent.trail_reader import TrailReader

    directory, selection = HostPaths(root).audit, _chosen(options)
    reader = TrailReader(directory)
    head = read_head(directory)
    reader.go_after(first - 1 if first is not None else head.sequence if head else 0)
    while True:
        for record in selection.chosen(reader.read(BATCH)):
            told = record.encode().decode() if as_json else "  ".join(map(str, _row(record))).rstrip()
            click.echo(told)
            count -= 1
            if count == 0:
                return
        if reader.ended():
            time.sleep(FOLLOW_SECONDS)


@command.command("export")
@root_option
@_selection
@click.option("--first", type=click.IntRange(1), help="Only records from this number on.")
@click.option("--last", type=click.IntRange(1), help="Only records up to this number.")
@click.option(
    "--format", "form", type=click.Choice(["json", "syslog"]), default="json", help="How a record is written."
)
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="The file to write, instead of the output.")
def export(root: Path, form: str, to: Path | None, **options: Any) -> None:
    """Verify the trail, then write its records, one a line; in JSON the signed head comes last. Exit 5 when broken."""
    from agent.audit import read_signed_head, records
    from agent.audit_key import verify_host
    from agent.audit_selection import exported
    from content.durable import Writer, temporary

    paths = HostPaths(root)
    head, _ = verify_host(paths)
    options["last"] = min(head.sequence, options["last"] or head.sequence)
    chosen = _chosen(options).chosen(records(paths.audit))
    lines = exported(chosen, read_signed_head(paths.audit), form, os.uname().nodename)
    if to is None:
        for line in lines:
            click.echo(line)
        return
    target = to.absolute()
    with Writer(temporary(target.parent)) as writer:
        for line in lines:
            writer.write(line + b"\n")
        writer.commit(target)


@command.command("verify")
@root_option
@output_option
def verify(root: Path, output: str) -> None:
    """Verify the hash chain from the first record to the head; exit 5 when it is broken."""
    from agent.audit_key import verify_host

    head, signed = verify_host(HostPaths(root))
    said = f"signed by the TPM up to record {signed.sequence}" if signed else "no head was signed by the TPM yet"
    show(
        output,
        {"records": head.sequence, "head": head.hash, "signed": signed.sequence if signed else 0},
        lambda: click.echo(f"{head.sequence} records, unbroken, head {head.hash}; {said}"),
    )
