# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest``: evidence of this host, and the verification of any host's."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from documents.errors import Exit
from vmgate.commands.attest_reference import corim, reference
from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, show

MAX_KEY = 10_000
RESULT_SECONDS = 3600
"""How long a result may be relied on."""
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("attest")
def command() -> None:
    """Evidence and its verification."""


command.add_command(reference)
command.add_command(corim)


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise UsageError("the nonce was not read", cause="it is not hexadecimal", remedy="give --nonce HEX") from error


@command.command("self")
@root_option
@output_option
def self_(root: Path, output: str) -> None:
    """Let this host judge itself, as its gate does."""
    from vmgate.commands.vm import draw_verdict

    result: dict[str, Any] = ask(root, "attest/self")
    show(output, result, lambda: draw_verdict(result["verdict"], ""))
    if result["verdict"]["status"] == "contraindicated":
        raise click.exceptions.Exit(Exit.REFUSED)


@command.command("evidence")
@click.option("--nonce", "nonce_hex", required=True, help="The verifier's nonce, hexadecimal, 16 to 64 bytes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not standard output.")
@root_option
def evidence(nonce_hex: str, out: Path | None, root: Path) -> None:
    """Make evidence over a verifier's nonce: a quote and the logs that explain it."""
    from content.durable import write_file

    result: dict[str, Any] = ask(root, "attest/evidence", nonce=_nonce(nonce_hex).hex())
    if out is None:
        click.echo(result["evidence"])
    else:
        write_file(out.absolute(), result["evidence"].encode(), 0o644)


@command.command("nonce")
def nonce() -> None:
    """Print a fresh nonce for a verification."""
    click.echo(secrets.token_hex(32))


@command.command("verify")
@click.argument("file", type=FILE)
@click.option(
    "--release",
    "releases",
    type=FILE,
    multiple=True,
    help="A release that the host should run; an older workload release explains VMs that still run.",
)
@click.option("--ak", type=FILE, help="The host's attestation key, as enrolled (TPMT_PUBLIC).")
@click.option("--nonce", "nonce_hex", default="", help="The nonce that you sent, hexadecimal.")
@click.option("--anchor", type=FILE, help="Root metadata of the repository that the host must follow.")
@click.option("--policy", type=FILE, help="The release's security policy; without it the answer is no.")
@click.option("--host-image", type=FILE, help="The release's host image, where it has one.")
@click.option(
    "--chip",
    is_flag=True,
    help="The enrolment showed the key to be a TPM chip's; without this the TPM counts as software (L0).",
)
@click.option("--signing-key", type=FILE, help="P-256 private key, PEM: print the EAR as a signed JWT.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json")
def verify(
    *,
    file: Path,
    releases: tuple[Path, ...],
    ak: Path | None,
    nonce_hex: str,
    anchor: Path | None,
    policy: Path | None,
    host_image: Path | None,
    chip: bool,
    signing_key: Path | None,
    output: str,
) -> None:
    """Judge a host's evidence and print the result as an EAR; exit 5 unless it may be trusted."""
    from importlib.metadata import version

    from content.durable import read_file
    from documents.evidence import Evidence
    from documents.host_image import HostImage
    from documents.release import Release
    from documents.security_policy import SecurityPolicy
    from fleet.errors import VerifierUnready
    from fleet.verifier import Expected, verify_evidence
    from measure.ear import ear_claims, sign_ear

    if ak is None or not nonce_hex or not releases:
        raise VerifierUnready(
            "nothing was verified", cause="--ak, --nonce or --release is missing", remedy="give all three"
        )
    now = int(time.time())
    nonce_bytes = _nonce(nonce_hex)
    expected = Expected(
        releases=tuple(read_file(path, Release.LIMIT) for path in releases),
        anchor=read_file(anchor, 512_000) if anchor else None,
        policy=read_file(policy, SecurityPolicy.LIMIT) if policy else None,
        image=read_file(host_image, HostImage.LIMIT) if host_image else None,
    )
    verdict = verify_evidence(
        read_file(file, Evidence.LIMIT),
        expected,
        ak=read_file(ak, MAX_KEY),
        chip=chip,
        nonce=nonce_bytes,
        time=now,
    )
    claims = ear_claims(verdict, build=version("vmgate"), lifetime=RESULT_SECONDS, nonce=nonce_bytes)
    if signing_key is not None:
        click.echo(sign_ear(claims, read_file(signing_key, MAX_KEY)))
    else:
        show(output, claims, lambda: None, versioned=False)
    verdict.require_trusted("see the findings in the result")
