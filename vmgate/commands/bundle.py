# SPDX-License-Identifier: Apache-2.0
"""``vmgate bundle``: releases as one file, for hosts without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from documents.host_status import HostStatus

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("bundle")
def command() -> None:
    """Releases as one file for hosts without a network."""


@command.command("create")
@click.argument("repository", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--channel", "channels", multiple=True, default=("platform", "workload"), show_default=True)
@click.option("--have", multiple=True, help="Leave out an artifact that the host has (fs-verity digest).")
@click.option("--host", "hosts", multiple=True, help="Take along what is assigned to a host of a fleet.")
@click.option(
    "--for", "status", type=FILE, help="Make it for one host, as small as can be: its `vmgate status --save`."
)
def create(
    repository: Path,
    bundle: Path,
    channels: tuple[str, ...],
    have: tuple[str, ...],
    hosts: tuple[str, ...],
    status: Path | None,
) -> None:
    """Put the newest releases of a repository, and what they are made of, into one file."""
    from updater.repository.export import export_bundle

    if status is not None:
        host = _status(status)
        channels, have = host.channels, (*have, *host.artifacts)
        hosts = (*hosts, host.host) if host.host else hosts
    index = export_bundle(repository.absolute(), channels, bundle.absolute(), frozenset(have), hosts)
    say(f"{bundle}: {len(index.entries)} files, {index.size} bytes")


@command.command("inspect")
@click.argument("bundle", type=FILE)
@output_option
def inspect(bundle: Path, output: str) -> None:
    """List what a bundle says it holds; nothing of it is verified."""
    from updater.bundle import BundleReader

    with BundleReader(bundle) as reader:
        entries = reader.index.entries
    show(
        output,
        {"entries": [entry.members() for entry in entries]},
        lambda: table(["NAME", "BYTES"], [[entry.name, entry.length] for entry in entries]),
    )


@command.command("verify")
@click.argument("bundle", type=FILE)
@click.option("--anchor", type=FILE, required=True, help="Root metadata that the bundle must lead back to.")
@click.option("--channel", "channels", multiple=True, default=("platform", "workload"), show_default=True)
@click.option("--for", "status", type=FILE, help="It was made for one host: what that has may be missing in it.")
@output_option
def verify(bundle: Path, anchor: Path, channels: tuple[str, ...], status: Path | None, output: str) -> None:
    """Verify a bundle as a host would, against a trust anchor."""
    from updater.client.inspection import verify_bundle

    have: frozenset[str] = frozenset()
    if status is not None:
        host = _status(status)
        channels, have = host.channels, frozenset(host.artifacts)
    found = verify_bundle(bundle, anchor, channels, have, now=int(time.time()))
    releases = [{"channel": release.channel, "number": release.number} for release in found.releases]

    def draw() -> None:
        say("as signed: " + ", ".join(f"{item['channel']} {item['number']}" for item in releases))
        for name in found.by_delta:
            say(f"only the host can tell, from what it has: {name}")

    show(output, {"releases": releases, "by_delta": list(found.by_delta)}, draw)


def _status(path: Path) -> HostStatus:
    from content.durable import read_file
    from documents.host_status import HostStatus

    return HostStatus.parse(read_file(path, HostStatus.LIMIT))
