# SPDX-License-Identifier: Apache-2.0
"""Enrolment by the real command: a host with swtpm's certificate, a verifier with a folder of roots."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tpm2_pytss as tss

from documents.evidence import Evidence
from documents.identity import Challenge, Identity
from documents.release import Release
from lab import command
from lab.command import refused
from lab.host import Result
from lab.paper_tpm import EccAk
from lab.pem import pem
from lab.publisher import VM_NAME, Desk
from lab.tpm import Manufacturer
from lab.vendor import Authority
from lab.world import World, folder, living, serving
from measure.tpm import Tpm


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who judges the host, and what it keeps: roots, releases, and the nonce of each challenge."""

    folder: Path
    world: World

    def challenge(self, name: str = "one", **other: str | Path) -> Path:
        """Ask the host; the nonce stays in a file."""
        roots = other.get("ek_roots", self.folder / "roots")
        out, nonce = self.folder / f"{name}.challenge", self.folder / f"{name}.nonce"
        words = ("--ek-roots", roots, "--out", out, "--nonce-file", nonce)
        done = command.run("attest", "challenge", self.folder / "identity.json", *words)
        assert (done.exit, done.err) == (0, "")
        return out

    def answered(self, name: str = "one") -> Path:
        """Evidence over a challenge."""
        evidence = self.folder / f"{name}.json"
        self.world.run("attest", "evidence", "--challenge", self.challenge(name), "--out", evidence)
        return evidence

    def nonce(self, name: str = "one") -> str:
        return (self.folder / f"{name}.nonce").read_text().strip()

    def verify(self, evidence: Path, nonce: str, *more: str | Path, roots: Path | None = None) -> Result:
        known = ("--ek-roots", roots or self.folder / "roots")
        words = ("--anchor", self.folder / "root.json", "--policy", self.folder / "policy.json", "--nonce", nonce)
        releases = ("--release", self.folder / "platform.json", "--release", self.folder / "workload.json")
        return command.run("attest", "verify", evidence, *known, *words, *releases, *more)


@pytest.fixture(scope="module")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    return Manufacturer(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def verifier(desk: Desk, manufacturer: Manufacturer) -> Iterator[Verifier]:
    with (
        serving(desk.repository) as url,
        living("enrolment", desk, url, manufacturer=manufacturer) as world,
        folder("verifier") as below,
    ):
        world.run("update", "apply")
        software = below / "roots/software"
        software.mkdir(parents=True)
        for path in manufacturer.certificates:
            shutil.copy(path, software)
        (below / "roots/chips").mkdir()
        (below / "roots/chips/vendor.pem").write_text(pem(Authority("chip vendor").certificate))
        shutil.copy(desk.anchor, below / "root.json")
        for channel in ("platform", "workload"):
            (release,) = (desk.repository / f"targets/releases/{channel}").glob("*.1.json")
            shutil.copy(release, below / f"{channel}.json")
        (policy,) = Release.parse((below / "platform.json").read_bytes()).of_kind("security-policy")
        shutil.copy(world.stored("security-policy"), below / "policy.json")
        assert policy.fsverity == world.stored("security-policy").name
        world.run("attest", "identity", "--out", below / "identity.json")
        yield Verifier(below, world)


def test_a_host_is_known_by_its_vendors_word(verifier: Verifier) -> None:
    evidence = verifier.answered()
    assert stat.S_IMODE((verifier.folder / "one.nonce").stat().st_mode) == 0o600
    done = verifier.verify(evidence, verifier.nonce())
    assert (done.exit, done.err) == (0, "")
    platform = json.loads(done.out)["submods"]["platform"]
    assert platform["ear.status"] == "warning"
    # A program's root: L0, whatever else is right; and --chip has no say.
    assert platform["vmgate.appraisal"]["level"] == "L0"
    assert refused(verifier.verify(evidence, verifier.nonce(), "--chip"), 2).code == "VG002"
    # The nonce is the verifier's alone: not even the result tells it.
    assert verifier.nonce() not in done.out + evidence.read_text()


def test_what_the_verifier_learns_of_the_tpm(verifier: Verifier) -> None:
    words = ("--ek-roots", verifier.folder / "roots", "--out", verifier.folder / "told.challenge", "-o", "json")
    done = command.run("attest", "challenge", verifier.folder / "identity.json", *words)
    assert (done.exit, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["chip"], told["manufacturer"], told["ek"]) == (False, "id:00001014", "rsa")
    assert (len(told["nonce"]), len(told["path"])) == (64, 3)
    # The second key on the way is revoked: it is named as the list wants it.
    listed = verifier.folder / "revoking"
    shutil.copytree(verifier.folder / "roots", listed)
    (listed / "revoked").write_text(f"{told['path'][1]}  # stolen\n")
    out = verifier.folder / "never"
    done = command.run("attest", "challenge", verifier.folder / "identity.json", "--ek-roots", listed, "--out", out)
    assert refused(done, 5).code == "ME051"
    assert not out.exists()


def test_an_answer_serves_one_challenge(verifier: Verifier) -> None:
    first = verifier.answered("first")
    verifier.challenge("second")
    assert refused(verifier.verify(first, verifier.nonce("second")), 5).code == "ME004"
    assert refused(verifier.verify(first, "5a" * 16), 5).code == "ME053"
    # Evidence over a nonce is another thing than the answer to a challenge.
    plain = verifier.folder / "plain.json"
    verifier.world.run("attest", "evidence", "--nonce", verifier.nonce("second"), "--out", plain)
    assert refused(verifier.verify(plain, verifier.nonce("second")), 5).code == "FL001"


def test_another_identity_in_the_evidence_is_refused(verifier: Verifier, tmp_path: Path) -> None:
    evidence = Evidence.parse(verifier.answered("swapped").read_bytes())
    shown, changed = Identity.parse(evidence.identity), tmp_path / "changed.json"
    (key,) = shown.eks
    bare = replace(key, certificate=b"")
    broken = replace(key, certificate=key.certificate[:200] + b"?" + key.certificate[201:])
    other_ak = replace(shown, ak=EccAk(attributes=0x00050472).public)
    for identity, codes in (
        (b"{}", {"DC001"}),
        (replace(shown, eks=(bare,)).encode(), {"ME053"}),
        (replace(shown, eks=(broken,)).encode(), {"ME050", "ME051"}),
        (other_ak.encode(), {"ME004"}),
    ):
        changed.write_bytes(replace(evidence, identity=identity).encode())
        assert refused(verifier.verify(changed, verifier.nonce("swapped")), 5).code in codes
    changed.write_bytes(replace(evidence, identity=other_ak.encode(), ak=other_ak.ak).encode())
    assert refused(verifier.verify(changed, verifier.nonce("swapped")), 5).code == "ME004"


def test_only_who_is_in_the_folder_vouches(verifier: Verifier, tmp_path: Path) -> None:
    evidence = verifier.answered("strangers")
    stranger, chips, empty = tmp_path / "stranger", tmp_path / "chips-only", tmp_path / "empty"
    for path in (stranger, chips, empty):
        path.mkdir()
    (stranger / "vendor.pem").write_text(pem(Authority("stranger").certificate))
    for path in (verifier.folder / "roots/software").iterdir():
        shutil.copy(path, chips)
    nonce = verifier.nonce("strangers")
    assert refused(verifier.verify(evidence, nonce, roots=stranger), 5).code == "ME051"
    # swtpm's own authority among chips: the certificate itself says that a program's maker made the TPM.
    refusal = refused(verifier.verify(evidence, nonce, roots=chips), 5)
    assert (refusal.code, "id:00001014" in refusal.cause) == ("ME051", True)
    assert refused(verifier.verify(evidence, nonce, roots=empty), 5).code == "ME052"


def test_a_host_answers_its_own_challenges_only(verifier: Verifier, tmp_path: Path) -> None:
    host, good = verifier.world.host, Challenge.parse(verifier.challenge("mine").read_bytes())
    assert refused(host.vmgate("attest", "evidence"), 2).code == "VG002"
    both = ("--nonce", "00" * 32, "--challenge", verifier.folder / "mine.challenge")
    assert refused(host.vmgate("attest", "evidence", *both), 2).code == "VG002"
    before = verifier.world.state()
    for change in (
        {"ak_name": bytes(34)},
        {"ek": good.ek[:-1] + bytes([good.ek[-1] ^ 2])},
        {"credential": good.credential[:-1] + bytes([good.credential[-1] ^ 1])},
        {"seed": b""},
    ):
        (tmp_path / "wrong").write_bytes(replace(good, **change).encode())
        assert refused(host.vmgate("attest", "evidence", "--challenge", tmp_path / "wrong"), 5).code == "ME054"
    for rubbish in (b"", b"{}", verifier.folder.joinpath("identity.json").read_bytes()):
        (tmp_path / "wrong").write_bytes(rubbish)
        assert refused(host.vmgate("attest", "evidence", "--challenge", tmp_path / "wrong"), 5).code == "DC001"
    assert verifier.world.state() == before


def test_a_cleared_host_says_so_and_is_known_again_once_it_is_set_up_anew(verifier: Verifier, tmp_path: Path) -> None:
    """The last one here: it clears the host's TPM."""
    world, host = verifier.world, verifier.world.host
    host.stop_agent()
    with Tpm.open(host.tpm.tcti) as tpm:
        tpm._esys.clear(tss.ESYS_TR.LOCKOUT)
    host.power_cycle()
    host.start_agent()
    refusal = refused(host.vmgate("vm", "start", VM_NAME), 5)
    assert (refusal.code, "cleared" in refusal.cause) == ("AG010", True)
    # What it shows is the same, and its answers too: the verifier has nothing to enrol anew.
    world.run("attest", "identity", "--out", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (verifier.folder / "identity.json").read_bytes()

    # As the guide says.
    host.stop_agent()
    host.power_cycle()
    shutil.move(world.state_folder, tmp_path / "moved-away")
    world.run("init", "--anchor", world.desk.anchor)
    host.start_agent()
    world.run("update", "apply")
    evidence = verifier.answered("cleared")
    done = verifier.verify(evidence, verifier.nonce("cleared"))
    assert (done.exit, done.err) == (0, "")
