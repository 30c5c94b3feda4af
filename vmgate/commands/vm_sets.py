# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm export`` and ``vmgate vm import``: a VM with all that it keeps, as one file.

The private half of the recovery key is opened in this process; the agent gets the key of that one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmgate.commands.host import ask, greet, root_option
from vmgate.commands.key_options import FILE, passphrase_option
from vmgate.output import output_option, say, show

if TYPE_CHECKING:
    from agent.set_stream import Read


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--recipient", type=FILE, required=True, help="Public half of the recovery key that will open it (*.public)."
)
@root_option
@output_option
def export(*, name: str, file: Path, recipient: Path, root: Path, output: str) -> None:
    """Write a VM with its key, TPM and disks to FILE, signed by this host and encrypted for RECIPIENT.

    It is for root, and for administrators who authenticate anew. The VM must be off, and its definition must name the
    guardian recovery. It stays here: before it runs elsewhere, `vmgate vm delete` it.
    """
    from content.durable import read_file
    from documents.recovery import RecoveryKey

    greet(root)
    key = RecoveryKey.parse(read_file(recipient, RecoveryKey.LIMIT))
    result: dict[str, Any] = ask(
        root, "vm/export", name=name, file=str(file.absolute()), recipient=key.encode().decode()
    )

    def draw() -> None:
        say(f"{name} exported: set {result['number']}, for the recovery key {result['recipient'][:16]}")
        say(f"its TPM: endorsement key {result['endorsement']}")
        say(f"signed by the host sha256:{result['signer']}: give this to `vmgate vm import --signer`")

    show(output, result, draw)


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--key", "private", type=FILE, required=True, help="The recovery key's file that opens it.")
@click.option("--signer", default="", help="Digest of the host that it comes from; without it, this host.")
@passphrase_option()
@root_option
@output_option
def import_(*, file: Path, private: Path, signer: str, passphrase: Any, root: Path, output: str) -> None:
    """Take a VM from FILE: its key, its TPM and its disks. Its name and UUID stay.

    It is for root, and for administrators who authenticate anew. What was changed, is older than what this host knows
    of the VM, or has a name or UUID that is taken, is refused.
    """
    from agent.set_stream import read_head
    from keys.files import load_key
    from keys.recovery import unwrap
    from keys.roles import P256

    greet(root)
    with file.open("rb") as opened:
        read: Read = opened.read
        _, copy = read_head(read)
    key = unwrap(load_key(private, P256, passphrase()), copy, copy.uuid)
    result: dict[str, Any] = ask(root, "vm/import", file=str(file.absolute()), key=key.hex(), signer=signer)

    def draw() -> None:
        say(f"{result['name']} imported: set {result['number']}")
        say(f"its TPM is the one that it had: endorsement key {result['endorsement']}")

    show(output, result, draw)
