# SPDX-License-Identifier: Apache-2.0
"""``vmgate attest reference`` and ``attest corim``: out as a file, back by a key, and refused without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from content.fsverity import digest_bytes
from documents.release import Release
from lab import command
from lab.command import refused
from lab.corims import CorimKey

VECTORS = Path(__file__).parents[2] / "vectors/rig"
KEY = CorimKey()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release that names the captured host's image, and keys."""
    image = (VECTORS / "host-image.json").read_bytes()
    release = Release.parse((VECTORS / "platform.json").read_bytes())
    artifacts = tuple(
        replace(artifact, fsverity=digest_bytes(image)) if artifact.kind == "host-image" else artifact
        for artifact in release.artifacts
    )
    (tmp_path / "release").write_bytes(replace(release, artifacts=artifacts).encode())
    (tmp_path / "image").write_bytes(image)
    (tmp_path / "key").write_bytes(KEY.private)
    (tmp_path / "pub").write_bytes(KEY.public)
    (tmp_path / "other").write_bytes(CorimKey(seed=3).public)
    return tmp_path


def test_out_signed_and_back_by_the_key(folder: Path) -> None:
    out = folder / "corim"
    made = command.run("attest", "reference", folder / "release", "--host-image", folder / "image", "-o", "cbor",
                       "--signing-key", folder / "key", "--out", out)  # fmt: skip
    assert (made.exit, made.out, made.err) == (0, "", "")
    told = json.loads(command.run("attest", "reference", folder / "release", "--host-image", folder / "image").out)
    (entry,) = told["environments"]
    release = Release.parse((folder / "release").read_bytes())
    assert entry["components"] == [value.members() for value in release.reference]
    assert entry["boot"]["application"]
    assert len(entry["files"]) > 100
    back = json.loads(command.run("attest", "corim", out, "--key", folder / "pub", "-o", "json").out)
    assert back == {"api_version": 1, **told}

    refused(command.run("attest", "corim", out, "--key", folder / "other"), 5)
    refused(command.run("attest", "corim", out, "--from-verified-target"), 5)


def test_without_a_signature_it_counts_only_as_a_verified_target(folder: Path) -> None:
    out = folder / "corim"
    assert command.run("attest", "reference", folder / "release", "-o", "cbor", "--out", out).exit == 0
    first = out.read_bytes()
    assert command.run("attest", "reference", folder / "release", "-o", "cbor", "--out", out).exit == 0
    assert out.read_bytes() == first, "the same release gives the same bytes"
    shown = command.run("attest", "corim", out, "--from-verified-target")
    assert shown.exit == 0
    assert "platform/1: 3 states, 0 files" in shown.out
    refused(command.run("attest", "corim", out, "--key", folder / "pub"), 5)


def test_whom_to_believe_must_be_said(folder: Path) -> None:
    out = folder / "corim"
    command.run("attest", "reference", folder / "release", "-o", "cbor", "--out", out)
    refused(command.run("attest", "corim", out), 2)
    refused(command.run("attest", "corim", out, "--key", folder / "pub", "--from-verified-target"), 2)


def test_what_makes_no_corim(folder: Path) -> None:
    refused(command.run("attest", "reference", VECTORS / "workload.json"), 5)
    refused(command.run("attest", "reference", folder / "release", folder / "release"), 5)
    refused(command.run("attest", "reference", VECTORS / "platform.json", "--host-image", folder / "image"), 2)
    refused(command.run("attest", "reference", folder / "release", "--signing-key", folder / "key"), 2)
    refused(command.run("attest", "reference", folder / "release", "-o", "cbor", "--signing-key", folder / "pub"), 5)
