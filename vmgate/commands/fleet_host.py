# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet host``: what an administrator does to one host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.fleet_place import desk, folder_option
from vmgate.output import output_option, say, show

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SAID = {
    "approve": "is active",
    "revoke": "is revoked: nothing of it is heard, and it cannot enrol",
    "readmit": "waits for approval",
}


@click.group("host")
def host() -> None:
    """One host: approve, revoke, readmit, remove, label."""


@host.command("approve")
@click.argument("name")
@folder_option
@output_option
def approve(*, name: str, folder: Path, output: str) -> None:
    """Let a host in that waits."""
    _lead(folder, name, "approve", output)


@host.command("revoke")
@click.argument("name")
@click.option("--reason", required=True, help="For the audit trail.")
@folder_option
@output_option
def revoke(*, name: str, reason: str, folder: Path, output: str) -> None:
    """Hear nothing more of a host, at once; it cannot enrol again until it is readmitted."""
    _lead(folder, name, "revoke", output, reason=reason)


@host.command("readmit")
@click.argument("name")
@folder_option
@output_option
def readmit(*, name: str, folder: Path, output: str) -> None:
    """Let a revoked host wait for approval again."""
    _lead(folder, name, "readmit", output)


@host.command("remove")
@click.argument("name")
@folder_option
@output_option
def remove(*, name: str, folder: Path, output: str) -> None:
    """Forget a host, with its verdicts and its trail. It may enrol anew with a token."""
    with desk(folder) as place:
        from fleet.hosts import remove as forget

        def job(connection: Connection) -> tuple[Any, str]:
            row = forget(connection, name)
            return row.name, row.name

        found = place.change("host-remove", job)
    show(output, {"name": found}, lambda: say(f"{found} is forgotten"))


@host.command("label")
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="NAME=TEXT...")
@folder_option
@output_option
def label(*, name: str, labels: tuple[str, ...], folder: Path, output: str) -> None:
    """Give a host labels; one without a text goes."""
    from documents.fields import NAME, TEXT

    wanted = []
    for item in labels:
        key, sign, text = item.partition("=")
        if not sign or not NAME.fullmatch(key) or len(text) > 200 or not TEXT.fullmatch(text):
            raise click.BadParameter(f"{item!r} is not NAME=TEXT", param_hint="LABELS")
        wanted.append((key, text))
    with desk(folder) as place:
        from fleet.hosts import labels_of, set_labels

        def job(connection: Connection) -> tuple[dict[str, str], str]:
            row = set_labels(connection, name, wanted)
            return labels_of(connection, row.id), row.name

        found = place.change("host-label", job, labels=" ".join(labels)[:800])
    show(
        output, {"labels": found}, lambda: say(" ".join(f"{key}={text}" for key, text in found.items()) or "no labels")
    )


def _lead(folder: Path, name: str, event: str, output: str, **details: str) -> None:
    with desk(folder) as place:
        from fleet.hosts import lead
        from fleet.states import after

        def job(connection: Connection) -> tuple[Any, str]:
            row = lead(connection, name, event)
            return row, row.name

        row = place.change(f"host-{event}", job, **details)
        state = after(row.state, event)
    show(output, {"name": row.name, "id": row.id, "state": state}, lambda: say(f"{row.name} {_SAID[event]}"))
