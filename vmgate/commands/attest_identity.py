# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest identity`` and ``challenge``: how a verifier gets to know a host by its TPM vendor's word."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, show, table

OUT = click.Path(path_type=Path, dir_okay=False)


def write_or_print(text: str, out: Path | None) -> None:
    """A document to a file, or to standard output."""
    from content.durable import write_file

    if out is None:
        click.echo(text)
    else:
        write_file(out.absolute(), text.encode(), 0o644)


def read_challenge(path: Path) -> str:
    """A challenge as the agent takes it."""
    from content.durable import read_file
    from documents.identity import Challenge

    return Challenge.parse(read_file(path, Challenge.LIMIT)).encode().decode()


@click.command("identity")
@click.option("--out", type=OUT, help="Write to this file, not standard output.")
@root_option
def identity(out: Path | None, root: Path) -> None:
    """Say who this host's TPM is: its endorsement keys, their certificates, its attestation key. It holds no secret."""
    result: dict[str, Any] = ask(root, "attest/identity")
    write_or_print(result["identity"], out)


@click.command("challenge")
@click.argument("identity_file", metavar="IDENTITY", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--ek-roots",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with certificates of TPM vendors: chips' roots, or `chips` and `software` below it.",
)
@click.option("--out", required=True, type=OUT, help="The challenge: for `vmgate attest evidence --challenge`.")
@click.option("--nonce-file", type=OUT, help="Write the nonce to this file (mode 0600), not to standard output.")
@output_option
def challenge(identity_file: Path, ek_roots: Path, out: Path, nonce_file: Path | None, output: str) -> None:
    """Ask a host to prove that one TPM, which its vendor vouches for, holds the keys of its identity.

    The nonce goes to `vmgate attest verify --nonce` and to nobody else, once: whoever knows it before the evidence is
    there can forge the proof.
    """
    from content.durable import read_file, write_file
    from documents.identity import Identity
    from fleet.enrolment import make_challenge
    from measure.ek_roots import Roots
    from measure.proof import NONCE_SIZE

    nonce = secrets.token_bytes(NONCE_SIZE)
    document, endorsed = make_challenge(
        read_file(identity_file, Identity.LIMIT), Roots.load(ek_roots), nonce, int(time.time())
    )
    if nonce_file is not None:
        write_file(nonce_file.absolute(), nonce.hex().encode() + b"\n", 0o600)
    write_file(out.absolute(), document, 0o644)
    vouched = endorsed.vouched
    result: dict[str, Any] = {
        "ek": endorsed.ek.kind,
        "ek_name": endorsed.ek.name.hex(),
        "ak_name": endorsed.ak_name.hex(),
        "chip": vouched.chip,
        "manufacturer": vouched.manufacturer,
        "path": [found.key_digest for found in vouched.path],
    }
    if nonce_file is None:
        result["nonce"] = nonce.hex()
    rows = [
        ["TPM", "a chip" if vouched.chip else "a program (L0 at most)"],
        ["manufacturer", vouched.manufacturer or "not named"],
        ["attestation key", endorsed.ak_name.hex()],
        *(["SHA-256 of a key", digest] for digest in result["path"]),
        ["nonce", f"in {nonce_file}" if nonce_file else nonce.hex()],
    ]
    show(output, result, lambda: table(["WHAT", "IS"], rows))
