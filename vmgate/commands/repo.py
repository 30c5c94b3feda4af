# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo``: the publisher's desk. Works on files, needs no agent, and never runs on a managed host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.commands import repo_assign, repo_delta, repo_gc, repo_keys, repo_vmm
from vmgate.commands.key_options import FILE, FOLDER, NEW_FILE, keys_options, request_option
from vmgate.output import note, output_option, say, show, table

if TYPE_CHECKING:
    from keys.unlock import Unlock


def _now() -> int:
    return int(time.time())


@click.group("repo")
def command() -> None:
    """The publisher: keys, releases, repository."""


for verb in (*repo_keys.VERBS, repo_assign.command, repo_delta.command, repo_gc.command, repo_vmm.command):
    command.add_command(verb)


@command.command("init")
@click.argument("repository", type=FOLDER)
@keys_options(confirm=True)
@click.option("--channel", "channels", multiple=True, default=("platform", "workload"), show_default=True)
@click.option("--anchor", type=NEW_FILE, help="Write the trust anchor of hosts here.")
@output_option
def init(
    repository: Path,
    keys: Path,
    secret: Unlock,
    channels: tuple[str, ...],
    anchor: Path | None,
    output: str,
) -> None:
    """Make all keys and an empty repository."""
    from content.durable import write_file
    from keys.anchor import TrustAnchor
    from keys.roles import role
    from updater.repository.create import create

    root = create(repository.absolute(), keys.absolute(), secret, channels, now=_now())
    if anchor is not None:
        write_file(anchor.absolute(), root, 0o644)
    names = ["root", "targets", *[f"releases-{channel}" for channel in channels], "snapshot", "timestamp", "tpm-policy"]
    rows = [
        [name, f"{role(name).threshold} of {role(name).keys}", role(name).curve, "yes" if role(name).offline else "no"]
        for name in names
    ]
    identity = TrustAnchor(root).identity

    def draw() -> None:
        table(["ROLE", "SIGN", "CURVE", "OFFLINE"], rows)
        say(f"identity of the repository: sha256:{identity}")

    show(output, {"identity": identity, "roles": names}, draw)


@command.command("key")
@keys_options()
@click.option("--name", default="vmgate image signing key", help="Common name in the certificate.")
@output_option
def key(keys: Path, secret: Unlock, name: str, output: str) -> None:
    """Make the key that signs what a VM's firmware starts, and its certificate."""
    from datetime import UTC, datetime

    from publisher.signing import create_image_key

    made = create_image_key(keys.absolute(), secret.passphrase(), name, datetime.fromtimestamp(_now(), UTC))
    show(
        output,
        {"key": str(made.key), "certificate": str(made.certificate)},
        lambda: say(f"{made.key} (encrypted), {made.certificate}"),
    )


@command.command("sign-image")
@click.argument("efi", type=FILE)
@click.argument("out", type=NEW_FILE)
@keys_options()
def sign_image(efi: Path, out: Path, keys: Path, secret: Unlock) -> None:
    """Sign an EFI program with the image signing key."""
    from publisher.signing import ImageKey, sign_image

    sign_image(efi, ImageKey.within(keys.absolute()), secret.passphrase(), out.absolute())
    say(f"{out} signed")


@command.command("firmware")
@click.argument("template", type=FILE)
@click.argument("out", type=NEW_FILE)
@click.option("--certificate", type=FILE, required=True, help="Becomes PK, KEK and db; nobody else's key stays.")
@click.option("--owner", type=click.UUID, default="5b4f7e52-8f0a-4f7e-9d3c-6f1f0a3c9b11", help="Signature owner GUID.")
@click.option("--tool", type=FILE, default=Path("/usr/bin/virt-fw-vars"), help="The program virt-fw-vars.")
def firmware(template: Path, out: Path, certificate: Path, owner: Any, tool: Path) -> None:
    """Make the UEFI variables template of all VMs: Secure Boot on, the publisher's own keys."""
    from publisher.firmware import SecureBootKeys, enrol

    keys = SecureBootKeys(platform=certificate, exchange=certificate, database=certificate, owner=owner)
    enrol(template, out.absolute(), keys, tool)
    say(f"{out} made")


@command.command("release")
@click.argument("repository", type=FOLDER)
@click.argument("recipe", type=FILE)
@keys_options()
@request_option
@output_option
def release(repository: Path, recipe: Path, keys: Path, secret: Unlock, request: Path | None, output: str) -> None:
    """Measure a recipe's artifacts, predict and sign what they measure to, and publish the release."""
    from publisher.desk import release as publish

    place = request.absolute() if request else None
    made = publish(repository.absolute(), keys.absolute(), secret, recipe.absolute(), now=_now(), request=place)

    def draw() -> None:
        done = "published" if request is None else f"to be signed, see {request}"
        say(f"{made.channel} {made.number} {done}, security epoch {made.epoch}")
        table(
            ["ARTIFACT", "KIND", "BYTES", "FSVERITY"], [[a.name, a.kind, a.length, a.fsverity] for a in made.artifacts]
        )
        for policy in (policy for policy in made.policies if policy.epoch == made.epoch):
            origin = "a fresh boot" if policy.entry == "fresh" else f"a switch from {policy.predecessor}"
            values = ", ".join(f"PCR {index} = {value}" for index, value in policy.pcrs)
            say(f"signed TPM policy for {origin}: {values}")

    show(output, {"release": made.members()}, draw)


@command.command("add")
@click.argument("repository", type=FOLDER)
@click.argument("files", type=FILE, nargs=-1, required=True)
@output_option
def add(repository: Path, files: tuple[Path, ...], output: str) -> None:
    """Put files into the repository, where nothing names them yet; a recipe can name an image by its digest."""
    from updater.repository.release import add_file

    added = [(path, add_file(repository.absolute(), path.absolute())) for path in files]
    show(
        output,
        {"files": [{"file": str(path), "fsverity": m.fsverity, "length": m.length} for path, m in added]},
        lambda: table(["FILE", "BYTES", "FSVERITY"], [[path, m.length, f"sha256:{m.fsverity}"] for path, m in added]),
    )


@command.command("refresh")
@click.argument("repository", type=FOLDER)
@keys_options()
def refresh(repository: Path, keys: Path, secret: Unlock) -> None:
    """Sign snapshot and timestamp anew, before they expire."""
    from updater.repository.refresh import refresh

    refresh(repository.absolute(), keys.absolute(), secret, now=_now())
    say("snapshot and timestamp signed")


@command.command("verify")
@click.argument("repository", type=FOLDER)
@output_option
def verify(repository: Path, output: str) -> None:
    """Verify the whole repository: metadata, releases and every artifact; tell what expires when."""
    from updater.repository.chain import load_chain
    from updater.repository.verify import expiries, verify_repository

    found = verify_repository(repository.absolute(), now=_now())
    expires = {name: day.date().isoformat() for name, day in expiries(load_chain(repository.absolute()))}
    channels = [{"role": name, "release": number} for name, number in found.channels]

    def draw() -> None:
        say(f"{found.releases} releases and {found.blobs} artifacts are as they were signed")
        say("expire: " + ", ".join(f"{name} {day}" for name, day in sorted(expires.items(), key=lambda pair: pair[1])))

    show(
        output,
        {
            "root": found.root,
            "channels": channels,
            "releases": found.releases,
            "blobs": found.blobs,
            "expires": expires,
        },
        draw,
    )


@command.command("serve")
@click.argument("repository", type=FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
def serve(repository: Path, host: str, port: int) -> None:
    """Serve the repository over HTTP until interrupted; any web server does the same."""
    from updater.repository.serve import RepositoryServer

    with RepositoryServer(
        repository.absolute(), host, port, lambda method, path, status: note(f"{status} {method} {path}")
    ) as server:
        say(f"serving {repository} at {server.url}")
        server.serve_forever()
