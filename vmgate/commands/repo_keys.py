# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo``: the verbs about keys and signatures: rotate, renew, sign, merge, keygen, public, and revoke."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmgate.commands.key_options import FILE, FOLDER, NEW_FILE, keys_options, request_option
from vmgate.errors import UsageError
from vmgate.output import note, output_option, say, show

if TYPE_CHECKING:
    from keys.unlock import Unlock
    from updater.repository.change import Change

MAX_REQUEST = 16_000_000


def _now() -> int:
    return int(time.time())


@click.command("rotate")
@click.argument("repository", type=FOLDER)
@click.argument("role")
@keys_options()
@click.option("--key", "names", multiple=True, help="A key in the folder that comes in, such as root-4.")
@click.option("--public", type=FILE, multiple=True, help="A public key in PEM that comes in; somebody else holds it.")
@click.option(
    "--new", type=click.IntRange(0, 20), help="Make so many keys; without any of the three, as many as leave."
)
@click.option("--remove", multiple=True, help="Id of a key that leaves, or its beginning; without it all leave.")
@click.option("--threshold", type=click.IntRange(1, 20), help="How many must sign; else as many as before.")
@request_option
@output_option
def rotate(
    *,
    repository: Path,
    role: str,
    keys: Path,
    secret: Unlock,
    names: tuple[str, ...],
    public: tuple[Path, ...],
    new: int | None,
    remove: tuple[str, ...],
    threshold: int | None,
    request: Path | None,
    output: str,
) -> None:
    """Give a role other keys: root, targets, snapshot, timestamp, or releases-CHANNEL."""
    from publisher.custody import Rotation, rotate_role

    wanted = Rotation(role=role, names=names, public=public, make=new, remove=remove, threshold=threshold)
    place = request.absolute() if request else None
    change = rotate_role(repository.absolute(), keys.absolute(), secret, wanted, now=_now(), request=place)
    _show_change(output, change, request)


@click.command("renew")
@click.argument("repository", type=FOLDER)
@click.argument("role")
@keys_options()
@request_option
@output_option
def renew(repository: Path, role: str, keys: Path, secret: Unlock, request: Path | None, output: str) -> None:
    """Sign root, targets or releases-CHANNEL anew, with the same keys, before it expires."""
    from publisher.custody import renew_role

    place = request.absolute() if request else None
    change = renew_role(repository.absolute(), keys.absolute(), secret, role, now=_now(), request=place)
    _show_change(output, change, request)


def _show_change(output: str, change: Change, request: Path | None) -> None:
    parts = [{"role": part.role, "version": part.signed.version} for part in change.parts]
    result = {"purpose": change.purpose, "parts": parts, "published": request is None}

    def draw() -> None:
        versions = ", ".join(f"{part['role']} {part['version']}" for part in parts)
        say(f"{change.purpose}: {versions} {'published' if request is None else f'to be signed, see {request}'}")

    show(output, result, draw)


@click.command("sign")
@click.argument("request", type=FILE)
@keys_options()
@click.option("--out", type=NEW_FILE, help="Write the signed request here; without it the request is only shown.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
def sign(request: Path, keys: Path, secret: Unlock, out: Path | None, yes: bool, output: str) -> None:
    """Show what a signing request says, and sign it with the keys that it asks for. Needs no repository."""
    from content.durable import read_file, write_file
    from updater.repository.ceremony import read_request, sign_request

    if out is not None and not yes and not sys.stdin.isatty():
        raise UsageError(
            "nothing was signed",
            cause="there is no terminal to ask on",
            remedy="read what it says without --out, then give --yes",
        )
    reading = read_request(read_file(request, MAX_REQUEST))
    parts = [
        {"role": part.role, "facts": list(facts)} for part, facts in zip(reading.parts, reading.facts, strict=True)
    ]
    result = {"purpose": reading.purpose, "parts": parts, "signatures": 0, "out": str(out) if out else None}
    if out is None and output != "table":
        show(output, result, lambda: None)
        return
    tell = note if out is not None else say
    tell(f"its maker says: {reading.purpose}")
    for line in (line for facts in reading.facts for line in facts):
        tell(line)
    if out is None:
        return
    if not yes:
        click.confirm("Sign this?", abort=True, err=True)
    signed, added = sign_request(reading, keys.absolute(), secret)
    write_file(out.absolute(), signed, 0o644)
    show(output, result | {"signatures": added}, lambda: say(f"{added} signatures added, see {out}"))


@click.command("merge")
@click.argument("repository", type=FOLDER)
@click.argument("requests", type=FILE, nargs=-1, required=True)
@keys_options()
@output_option
def merge(repository: Path, requests: tuple[Path, ...], keys: Path, secret: Unlock, output: str) -> None:
    """Join the signatures of a request's copies and publish it; snapshot and timestamp are signed here."""
    from content.durable import read_file
    from updater.repository.ceremony import merge

    copies = [read_file(path, MAX_REQUEST) for path in requests]
    change = merge(repository.absolute(), keys.absolute(), secret, copies, now=_now())
    _show_change(output, change, None)


@click.command("keygen")
@click.argument("role")
@keys_options(confirm=True, making=True)
@click.option("--public", type=NEW_FILE, help="Write its public half here, for `repo rotate --public`.")
@output_option
def keygen(role: str, keys: Path, secret: Unlock, public: Path | None, output: str) -> None:
    """Make one more key for a role (also tpm-policy); it signs nothing before the repository knows it."""
    from publisher.custody import new_key, new_tpm_key

    make = new_tpm_key if secret.tcti else new_key
    name, key = make(role, keys.absolute(), secret)
    _show_key(output, name, key.keyid, key.keyval["public"], public)


@click.command("public")
@click.argument("name")
@keys_options()
@click.option("--out", type=NEW_FILE, help="Write it here in PEM.")
@output_option
def public(name: str, keys: Path, secret: Unlock, out: Path | None, output: str) -> None:
    """Show the public half of a key, such as root-1, wherever signers.toml says that it is."""
    from publisher.custody import public_half

    key = public_half(name, keys.absolute(), secret)
    _show_key(output, name, key.keyid, key.keyval["public"], out)


def _show_key(output: str, name: str, keyid: str, pem: str, out: Path | None) -> None:
    from content.durable import write_file

    if out is not None:
        write_file(out.absolute(), pem.encode(), 0o644)
    show(output, {"name": name, "id": keyid, "public": pem}, lambda: say(f"{name} {keyid}"))


@click.command("revoke")
@click.argument("repository", type=FOLDER)
@click.argument("channel")
@click.argument("number", type=click.IntRange(1))
@keys_options()
@click.option(
    "--to", "good", type=click.IntRange(1), default=None, help="Whose content comes instead; else the newest."
)
@click.option("--raise-epoch", is_flag=True, help="Shut all older releases out for good: no host rolls back to it.")
@request_option
@output_option
def revoke(
    *,
    repository: Path,
    channel: str,
    number: int,
    keys: Path,
    secret: Unlock,
    good: int | None,
    raise_epoch: bool,
    request: Path | None,
    output: str,
) -> None:
    """Take a release back: publish another one's content under a new number, and refuse what only it brought."""
    from publisher.desk import revoke
    from publisher.revoke import Revocation

    wanted = Revocation(channel=channel, number=number, good=good or 0, raise_epoch=raise_epoch)
    place = request.absolute() if request else None
    made = revoke(repository.absolute(), keys.absolute(), secret, wanted, now=_now(), request=place)

    def draw() -> None:
        done = "published" if request is None else f"to be signed, see {request}"
        say(f"{channel} {number} is taken back by {channel} {made.number}, {done}")
        for digest in made.refused:
            say(f"refused from now on: sha256:{digest}")

    show(output, {"release": made.members(), "published": request is None}, draw)


VERBS = (rotate, renew, sign, merge, keygen, public, revoke)
