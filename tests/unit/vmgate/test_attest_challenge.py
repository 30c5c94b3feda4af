# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest challenge`` on a verifier without a host: what it asks, and what it does not ask about."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from documents.identity import Challenge, EndorsementKey, Identity
from lab import command
from lab.command import refused
from lab.paper_tpm import EccAk
from lab.pem import pem
from lab.vendor import Authority, ecc_key
from measure.endorsement import parse_ek, template
from measure.templates import public_name, sized

DAYS = 4_000
VENDOR = Authority("vendor", since=-DAYS, until=DAYS)
KEY = ecc_key(11)
NUMBERS = KEY.public_key().public_numbers()
PUBLIC = template("ecc")[:-68] + sized(NUMBERS.x.to_bytes(32, "big")) + sized(NUMBERS.y.to_bytes(32, "big"))
GOOD = Identity(
    eks=(EndorsementKey(public=PUBLIC, certificate=VENDOR.ek(KEY.public_key(), since=-DAYS, until=DAYS)),),
    chain=b"",
    ak=EccAk(attributes=0x00050472).public,
)


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "roots"
    folder.mkdir()
    (folder / "vendor.pem").write_text(pem(VENDOR.certificate))
    return folder


def test_what_is_asked_of_a_chip(tmp_path: Path, roots: Path) -> None:
    (tmp_path / "identity").write_bytes(GOOD.encode())
    out = tmp_path / "challenge"
    words = (tmp_path / "identity", "--ek-roots", roots, "--out", out)
    done = command.run("attest", "challenge", *words, "-o", "json")
    assert (done.exit, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["chip"], told["manufacturer"], told["ek"]) == (True, "id:49465800", "ecc")
    challenge = Challenge.parse(out.read_bytes())
    assert challenge.ek == PUBLIC
    assert challenge.ak_name.hex() == told["ak_name"] == public_name(GOOD.ak).hex()
    assert parse_ek(PUBLIC).name.hex() == told["ek_name"]
    # A nonce of its own for each, told once and kept out of the challenge; in a file it is for its owner alone.
    again = command.run("attest", "challenge", *words, "--nonce-file", tmp_path / "nonce")
    assert (again.exit, again.err) == (0, "")
    nonce = (tmp_path / "nonce").read_text().strip()
    assert stat.S_IMODE((tmp_path / "nonce").stat().st_mode) == 0o600
    assert nonce not in again.out
    assert nonce != told["nonce"]
    assert len(bytes.fromhex(nonce)) == 32
    assert out.read_bytes() != challenge.encode()
    assert bytes.fromhex(told["nonce"]) not in challenge.credential + challenge.seed


def test_nothing_is_asked_of_who_is_not_known(tmp_path: Path, roots: Path) -> None:
    stranger = Authority("stranger", since=-DAYS, until=DAYS).ek(KEY.public_key(), since=-DAYS, until=DAYS)
    old = VENDOR.ek(KEY.public_key(), since=-DAYS, until=-DAYS + 1)
    (ek,) = GOOD.eks
    cases = {
        b"": "DC001",
        b"{}": "DC001",
        GOOD.encode()[:-1]: "DC001",
        replace(GOOD, ak=b"").encode(): "ME053",
        replace(GOOD, eks=()).encode(): "ME053",
        replace(GOOD, eks=(replace(ek, certificate=b""),)).encode(): "ME053",
        replace(GOOD, eks=(replace(ek, certificate=b"\xff" * 900),)).encode(): "ME050",
        replace(GOOD, eks=(replace(ek, certificate=stranger),)).encode(): "ME051",
        replace(GOOD, eks=(replace(ek, certificate=old),)).encode(): "ME051",
    }
    out, nonce = tmp_path / "challenge", tmp_path / "nonce"
    for untrusted, code in cases.items():
        (tmp_path / "identity").write_bytes(untrusted)
        words = (tmp_path / "identity", "--ek-roots", roots, "--out", out, "--nonce-file", nonce)
        assert refused(command.run("attest", "challenge", *words), 5).code == code
    assert not out.exists()
    assert not nonce.exists()


def test_a_folder_that_is_none_is_a_matter_of_usage(tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(GOOD.encode())
    words = (tmp_path / "identity", "--ek-roots", tmp_path / "missing", "--out", tmp_path / "challenge")
    assert refused(command.run("attest", "challenge", *words), 2).code == "VG002"
