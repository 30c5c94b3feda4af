# SPDX-License-Identifier: Apache-2.0
"""``vmgate audit``: read and verify the audit trail; for root it works without the agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from agent.paths import HostPaths
from vmgate.commands.host import root_option
from vmgate.output import output_option, show, table


@click.group("audit")
def command() -> None:
    """The audit trail of this host."""


@command.command("list")
@root_option
@output_option
@click.option("--event", default="", help="Only records of this event.")
@click.option("--last", type=click.IntRange(1), default=1_000_000, help="Only the last N records.")
def list_(root: Path, output: str, event: str, last: int) -> None:
    """List the records, oldest first; without root's rights the last 10,000 at most, from the agent."""
    from vmgate.audit_source import records

    chosen = [record for record in records(root) if event in ("", record.event)][-last:]
    rows = [
        [
            record.sequence,
            datetime.fromtimestamp(record.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            record.event,
            record.outcome,
            record.subject,
            record.actor,
            "; ".join(f"{name}={text}" for name, text in record.details),
        ]
        for record in chosen
    ]
    headings = ["NO", "TIME", "EVENT", "OUTCOME", "SUBJECT", "ACTOR", "DETAILS"]
    show(output, {"records": [record.members() for record in chosen]}, lambda: table(headings, rows))


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
