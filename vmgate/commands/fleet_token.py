# SPDX-License-Identifier: Apache-2.0
"""``vmgate fleet token``: what lets a host into the fleet, once."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from vmgate.fleet_place import administrator, desk, folder_option
from vmgate.output import output_option, say, show, table


@click.group("token")
def token() -> None:
    """Tokens that let a host in, once each."""


@token.command("create")
@folder_option
@click.option("--name", default="", help="What its host will be called; else it says so itself.")
@click.option("--channel", default="", help="Platform channel of its host; else that of fleet.toml.")
@click.option("--hours", type=click.IntRange(1, 24 * 90), default=24, show_default=True, help="For so long.")
@output_option
def create(*, folder: Path, name: str, channel: str, hours: int, output: str) -> None:
    """Make a token and print it; it is kept nowhere. Hand it over like a password."""
    from documents.fields import NAME

    for hint, text in (("--name", name), ("--channel", channel)):
        if text and not NAME.fullmatch(text):
            raise click.BadParameter("it is not a name", param_hint=hint)
    with desk(folder) as place:
        from fleet.tokens import Wanted
        from fleet.tokens import create as keep

        wanted = Wanted(
            token=secrets.token_hex(32),
            expires=place.now + hours * 3_600,
            name=name,
            channel=channel or place.settings.channel,
            creator=administrator(),
        )

        digest = place.change(
            "token-create", lambda connection: (keep(connection, wanted, place.now), name or "any host")
        )
    show(output, {"token": wanted.token, "id": digest[:16], "expires": wanted.expires}, lambda: say(wanted.token))


@token.command("list")
@folder_option
@output_option
def list_(*, folder: Path, output: str) -> None:
    """List tokens by the beginning of their digest, and what became of them."""
    with desk(folder) as place:
        from fleet.tokens import listed

        found = place.read(lambda connection: listed(connection, place.now))
    rows = [[item["id"], item["state"], item["name"] or "-", item["channel"], item["creator"]] for item in found]
    show(output, {"tokens": found}, lambda: table(["ID", "STATE", "NAME", "CHANNEL", "CREATOR"], rows))


@token.command("withdraw")
@click.argument("id_", metavar="ID")
@folder_option
@output_option
def withdraw(*, id_: str, folder: Path, output: str) -> None:
    """Let a token count no more."""
    with desk(folder) as place:
        from fleet.tokens import withdraw as take_back

        def job(connection: object) -> tuple[str, str]:
            digest = take_back(connection, id_)  # type: ignore[arg-type]
            return digest, digest[:16]

        digest = place.change("token-withdraw", job)
    show(output, {"id": digest[:16]}, lambda: say(f"the token {digest[:16]} counts no more"))
