# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo assign``: what each host of a fleet may update to. Works on files; hosts look it up themselves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.commands.key_options import FILE, FOLDER, keys_options
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from documents.assignment import Assignment, Range
    from keys.unlock import Unlock

DAY = 86_400
MAX_HOSTS_FILE = 128_000_000


def _now() -> int:
    return int(time.time())


@click.group("assign")
def command() -> None:
    """What each host of a fleet may update to."""


@command.command("init")
@click.argument("repository", type=FOLDER)
@keys_options()
@click.option("--bits", type=click.IntRange(1, 15), default=11, show_default=True, help="2 to the power of it bins.")
def init(repository: Path, keys: Path, secret: Unlock, bits: int) -> None:
    """Make the assignments role and its key; needs the targets keys, once."""
    from updater.repository.assignments_role import create_assignments

    create_assignments(repository.absolute(), keys.absolute(), secret, now=_now(), bits=bits)
    say(f"hosts can be assigned now; there are {2**bits} bins for them")


@command.command("set")
@click.argument("repository", type=FOLDER)
@click.argument("hosts", nargs=-1)
@keys_options()
@click.option("--hosts-from", type=FILE, help="A file with one host a line, besides the arguments.")
@click.option("--allow", multiple=True, required=True, help="CHANNEL, CHANNEL=NUMBER or CHANNEL=LOWEST-HIGHEST.")
@click.option("--lock", is_flag=True, help="Keep all that the hosts have.")
@click.option("--days", type=click.IntRange(1, 3660), default=90, show_default=True, help="Until it expires.")
def assign(
    repository: Path,
    hosts: tuple[str, ...],
    keys: Path,
    secret: Unlock,
    hosts_from: Path | None,
    allow: tuple[str, ...],
    lock: bool,
    days: int,
) -> None:
    """Assign hosts anew, all of them alike."""
    from documents.assignment import Assignment
    from updater.repository import assignments

    ranges = tuple(sorted(map(_range, allow), key=lambda allowed: allowed.channel))
    if len({allowed.channel for allowed in ranges}) != len(ranges):
        raise _wrong("a channel is there twice")
    names = {*map(_host, hosts), *(_listed(hosts_from) if hosts_from else ())}
    if not names:
        raise _wrong("it names no host")
    expires = _now() + days * DAY
    made = (Assignment(host=host, channels=ranges, locked=lock, expires=expires) for host in sorted(names))
    count = assignments.assign(repository.absolute(), keys.absolute(), secret, made, now=_now())
    say(f"{len(names)} hosts assigned, {count} bins signed")


@command.command("remove")
@click.argument("repository", type=FOLDER)
@click.argument("host")
@keys_options()
def remove(repository: Path, host: str, keys: Path, secret: Unlock) -> None:
    """Take a host's assignment away: it keeps what it has and takes nothing more."""
    from updater.repository.assignments import unassign

    unassign(repository.absolute(), keys.absolute(), secret, _host(host), now=_now())
    say(f"{host} has no assignment any more")


@command.command("renew")
@click.argument("repository", type=FOLDER)
@keys_options()
def renew(repository: Path, keys: Path, secret: Unlock) -> None:
    """Sign anew what is past half of its time; at least twice a year."""
    from updater.repository import assignments

    count = assignments.renew(repository.absolute(), keys.absolute(), secret, now=_now())
    say(f"the role and {count} of its bins signed")


@command.command("rekey")
@click.argument("repository", type=FOLDER)
@keys_options()
def rekey(repository: Path, keys: Path, secret: Unlock) -> None:
    """Replace the key, after its file was moved away; needs the targets keys."""
    from updater.repository.assignments_role import replace_key

    count = replace_key(repository.absolute(), keys.absolute(), secret, now=_now())
    say(f"a new key signs the role and {count} bins; look at what is assigned with `vmgate repo assign list`")


@command.command("show")
@click.argument("repository", type=FOLDER)
@click.argument("host")
@output_option
def show_one(repository: Path, host: str, output: str) -> None:
    """What one host may update to."""
    from updater.repository.assignments import assignment_of

    found = assignment_of(repository.absolute(), _host(host))
    show(output, {"assignment": found.members()}, lambda: table(_HEADINGS, [_row(found)]))


@command.command("list")
@click.argument("repository", type=FOLDER)
@output_option
def list_all(repository: Path, output: str) -> None:
    """All hosts, in the order of their bins."""
    from updater.repository.assignments import all_assignments
    from updater.repository.chain import load_chain

    found = list(all_assignments(repository.absolute(), load_chain(repository.absolute())))
    show(
        output,
        {"assignments": [assignment.members() for assignment in found]},
        lambda: table(_HEADINGS, [_row(assignment) for assignment in found]),
    )


_HEADINGS = ("HOST", "MAY TAKE", "LOCKED", "EXPIRES")


def _row(assignment: Assignment) -> list[Any]:
    from datetime import UTC, datetime

    allowed = ", ".join(map(_told, assignment.channels))
    expires = datetime.fromtimestamp(assignment.expires, UTC).date().isoformat()
    return [assignment.host, allowed, "yes" if assignment.locked else "no", expires]


def _told(allowed: Range) -> str:
    from documents.release import MAX_NUMBER

    if allowed.lowest == allowed.highest:
        return f"{allowed.channel} {allowed.lowest}"
    if (allowed.lowest, allowed.highest) == (1, MAX_NUMBER):
        return allowed.channel
    return f"{allowed.channel} {allowed.lowest}-{allowed.highest}"


def _range(text: str) -> Range:
    from documents.assignment import read_allowed
    from documents.errors import DocumentError

    try:
        return read_allowed(text)
    except DocumentError as error:
        raise _wrong(error.cause) from error


def _host(text: str) -> str:
    from updater.assignment import assignment_target

    try:
        assignment_target(text)
    except ValueError as error:
        raise _wrong(str(error)[:200]) from error
    return text


def _listed(path: Path) -> set[str]:
    from content.durable import read_file

    lines = read_file(path, MAX_HOSTS_FILE).decode(errors="replace").splitlines()
    return {_host(line.strip()) for line in lines if line.strip()}


def _wrong(why: str) -> UsageError:
    return UsageError("nothing was assigned", cause=why, remedy="name hosts, and what they may take, as `--help` shows")
