# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest``: evidence of this host, and the verification of any host's."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from documents.errors import Exit
from vmgate.commands import attest_identity
from vmgate.commands.attest_reference import corim, reference
from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, show, table

if TYPE_CHECKING:
    from documents.seen_host import SeenHost
    from fleet.verifier import Expected
    from measure.corim import Environment
    from measure.verifying import Known

MAX_KEY = 10_000
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"])
"""A local time."""


@click.group("attest")
def command() -> None:
    """Evidence and its verification."""


command.add_command(attest_identity.identity)
command.add_command(attest_identity.challenge)
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
@click.option("--nonce", "nonce_hex", default="", help="The verifier's nonce, hexadecimal, 16 to 64 bytes.")
@click.option("--challenge", type=FILE, help="The verifier's challenge, which only this TPM can answer.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not standard output.")
@click.option("--explain", is_flag=True, help="Send nothing: list what would be told, why, and what it reveals.")
@root_option
@output_option
def evidence(nonce_hex: str, challenge: Path | None, out: Path | None, explain: bool, root: Path, output: str) -> None:
    """Make evidence over a verifier's nonce or challenge: a quote and the logs that explain it."""
    if (bool(nonce_hex), challenge is not None, explain).count(True) != 1:
        raise UsageError(
            "no evidence was made", cause="it takes one of three", remedy="give --nonce, --challenge or --explain"
        )
    if explain:
        told: dict[str, Any] = ask(root, "attest/explain")
        columns = ["part", "bytes", "told", "why", "reveals"]
        rows = [[str(part[column]) for column in columns] for part in told["parts"]]
        show(output, told, lambda: table([column.upper() for column in columns], rows))
        return
    result: dict[str, Any] = (
        ask(root, "attest/answer", challenge=attest_identity.read_challenge(challenge))
        if challenge is not None
        else ask(root, "attest/evidence", nonce=_nonce(nonce_hex).hex())
    )
    attest_identity.write_or_print(result["evidence"], out)


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
@click.option("--ek-roots", type=FOLDER, help="Certificates of TPM vendors, for evidence over a challenge: no --ak.")
@click.option("--nonce", "nonce_hex", default="", help="The nonce that you sent, or the challenge's, hexadecimal.")
@click.option("--anchor", type=FILE, help="Root metadata of the repository that the host must follow.")
@click.option(
    "--policy", "policies", type=FILE, multiple=True, help="A release's security policy; without it the answer is no."
)
@click.option("--host-image", "images", type=FILE, multiple=True, help="A release's host image, where it has one.")
@click.option(
    "--libvirt-files",
    "listings",
    type=FILE,
    multiple=True,
    help="A release's list of libvirt's files.",
)
@click.option("--site-baseline", "baselines", type=FILE, multiple=True, help="A release's baseline for all its hosts.")
@click.option("--corim", type=FILE, help="Signed reference values that must be the releases' own; with --corim-key.")
@click.option("--corim-key", type=FILE, help="Public key, PEM, of whom you trust for the CoRIM.")
@click.option("--new-from", type=TIME, help="From when the newest of several platform releases counts; now without it.")
@click.option("--old-until", type=TIME, help="Until when the platform release before the newest counts as well.")
@click.option("--expires", type=TIME, help="When releases and policies given here must no longer be used.")
@click.option(
    "--seen",
    "seen_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep here how the host was last seen, and refuse what cannot follow from it.",
)
@click.option(
    "--chip",
    is_flag=True,
    help="With --ak: the enrolment showed the key to be a TPM chip's; without this it counts as software (L0).",
)
@click.option("--signing-key", type=FILE, help="P-256 private key, PEM: print the EAR as a signed JWT.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json")
def verify(*, file: Path, signing_key: Path | None, output: str, **given: Any) -> None:
    """Judge a host's evidence and print the result as an EAR; exit 5 unless it may be trusted.

    Of several platform releases those count that the times allow, each with its own policy and host image.
    """
    from importlib.metadata import version

    from content.durable import read_file, write_file
    from documents.evidence import Evidence
    from fleet.errors import VerifierUnready
    from fleet.verifier import answer

    if not given["nonce_hex"] or not given["releases"]:
        raise VerifierUnready("nothing was verified", cause="--nonce or --release is missing", remedy="give both")
    seen_file: Path | None = given["seen_file"]
    key = read_file(signing_key, MAX_KEY) if signing_key else None
    evidence = read_file(file, Evidence.LIMIT)
    known = replace(_known(evidence, given, int(time.time())), before=_seen(seen_file) if seen_file else None)
    found = answer(evidence, _expected(given), known, int(time.time()), build=version("vmgate"), private_pem=key)
    if found.token:
        click.echo(found.token)
    elif found.claims:
        show(output, found.claims, lambda: None, versioned=False)
    found.judged.require_trusted(int(time.time()))
    if seen_file and found.judged.seen:
        write_file(seen_file.absolute(), found.judged.seen.encode(), 0o600)


def _known(untrusted_evidence: bytes, given: dict[str, Any], now: int) -> Known:
    """How the host is known: by its vendor's root and the answer to a challenge, or by a key that was brought over."""
    from content.durable import read_file
    from fleet.enrolment import verify_enrolled
    from fleet.errors import VerifierUnready
    from measure.ek_roots import Roots
    from measure.verifying import Known

    ak, ek_roots, nonce = given["ak"], given["ek_roots"], _nonce(given["nonce_hex"])
    if ek_roots is not None and (ak is not None or given["chip"]):
        raise UsageError(
            "nothing was verified",
            cause="a vendor's root tells both the key and whether it is a chip's",
            remedy="give either --ek-roots or --ak",
        )
    if ek_roots is not None:
        return verify_enrolled(untrusted_evidence, Roots.load(ek_roots), nonce, now)
    if ak is None:
        raise VerifierUnready("nothing was verified", cause="--ak and --ek-roots are missing", remedy="give one")
    return Known(ak=read_file(ak, MAX_KEY), nonce=nonce, chip=given["chip"])


def _expected(given: dict[str, Any]) -> Expected:
    """What the options say that the host is compared with."""
    from content.durable import read_file
    from documents.host_files import HostFiles
    from documents.host_image import HostImage
    from documents.release import Release
    from documents.security_policy import SecurityPolicy
    from documents.site_baseline import SiteBaseline
    from fleet.verifier import Expected
    from measure.valid_releases import Terms

    return Expected(
        releases=tuple(read_file(path, Release.LIMIT) for path in given["releases"]),
        anchor=read_file(given["anchor"], 512_000) if given["anchor"] else None,
        policies=tuple(read_file(path, SecurityPolicy.LIMIT) for path in given["policies"]),
        images=tuple(read_file(path, HostImage.LIMIT) for path in given["images"]),
        listings=tuple(read_file(path, HostFiles.LIMIT) for path in given["listings"]),
        baselines=tuple(read_file(path, SiteBaseline.LIMIT) for path in given["baselines"]),
        endorsed=_endorsed(given["corim"], given["corim_key"]),
        policy=None,
        terms=Terms(opens=_seconds(given["new_from"]) or 0, closes=_seconds(given["old_until"]) or 0),
        expires=_seconds(given["expires"]),
    )


def _endorsed(corim: Path | None, key: Path | None) -> tuple[Environment, ...] | None:
    """What a CoRIM tells whose signature was verified; None where none was given."""
    from content.durable import read_file
    from measure.corim_reader import LIMIT, read_signed_corim

    if corim is None and key is None:
        return None
    if corim is None or key is None:
        raise UsageError("nothing was verified", cause="a CoRIM counts with its key alone", remedy="give both")
    return read_signed_corim(read_file(corim, LIMIT), read_file(key, MAX_KEY), int(time.time()))


def _seconds(time_of_day: datetime | None) -> int | None:
    """Seconds since 1970 UTC of a local time."""
    return None if time_of_day is None else max(1, int(time_of_day.timestamp()))


def _seen(path: Path) -> SeenHost | None:
    """The host as it was last seen; None the first time."""
    from content.durable import read_file
    from content.errors import Missing
    from documents.seen_host import SeenHost

    try:
        return SeenHost.parse(read_file(path, SeenHost.LIMIT))
    except Missing:
        return None
