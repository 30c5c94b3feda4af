# SPDX-License-Identifier: Apache-2.0
"""A release is what was signed, in every byte of every file, or it is refused with one line."""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lab.releasing import REPORT, load_release, verified, write_public

load_release()

from release.folder import SIGNATURE, SUMS, describe, seal, sha256, signer  # noqa: E402
from release.provenance import Built, envelope, statement  # noqa: E402
from release.resolved import Distribution, read  # noqa: E402

WHEEL, SOURCE = "vmgate-0.1.0-py3-none-any.whl", "vmgate-0.1.0.tar.gz"
COMMIT = "c" * 40


def resolved(folder: Path) -> tuple[Distribution, ...]:
    report = copy.deepcopy(REPORT)
    report["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"] = sha256(folder / WHEEL)  # type: ignore[index]
    return read(report)


def built(folder: Path) -> Built:
    subjects = {name: sha256(folder / name) for name in (WHEEL, SOURCE)}
    return Built(subjects=subjects, commit=COMMIT, tools={"hatchling": "1"}, source_time="2026-11-26T00:00:00Z")


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture(scope="module")
def public(key: ec.EllipticCurvePrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_public(key, tmp_path_factory.mktemp("key") / "vmgate-release.pub")


@pytest.fixture
def release(key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"what would be a wheel")
    (folder / SOURCE).write_bytes(b"what would be its source")
    describe(folder, resolved(folder), "0.1.0", 1_800_000_000)
    seal(folder, "0.1.0", built(folder), key)
    return folder


def relist(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Sign the list anew, as somebody could who has the key and lies in what it lists."""
    names = sorted(path for path in folder.iterdir() if path.name not in {SUMS, SIGNATURE})
    listed = "".join(f"{sha256(path)}  {path.name}\n" for path in names).encode()
    (folder / SUMS).write_bytes(listed)
    (folder / SIGNATURE).write_bytes(signer(key)(listed))


def refused(folder: Path, public: Path, told: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = verified(folder, public)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("verify-release: refused: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, "one line"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_release_as_it_was_signed_is_taken(release: Path, public: Path) -> None:
    done = verified(release, public)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"verify-release: {WHEEL} of commit {COMMIT} is as it was signed: 6 files\n"


def test_a_changed_byte_of_any_file_is_found(release: Path, public: Path) -> None:
    for path in sorted(release.iterdir()):
        good = path.read_bytes()
        for at in (0, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            refused(release, public, "")
        path.write_bytes(good)
    assert verified(release, public).returncode == 0


def test_a_missing_added_or_linked_file_is_found(release: Path, public: Path) -> None:
    (release / "more.whl").write_bytes(b"")
    refused(release, public, "other files than SHA256SUMS: more.whl")
    (release / "more.whl").unlink()
    kept = release.parent / "kept"
    shutil.move(release / WHEEL, kept)
    refused(release, public, f"other files than SHA256SUMS: {WHEEL}")
    (release / WHEEL).symlink_to(kept)
    refused(release, public, "is no plain file")


def test_another_key_is_not_believed(release: Path, tmp_path: Path) -> None:
    other = write_public(ec.generate_private_key(ec.SECP384R1()), tmp_path / "other.pub")
    refused(release, other, "SHA256SUMS was not signed by this key")
    (tmp_path / "none.pub").write_text("no key")
    refused(release, tmp_path / "none.pub", "was not signed by this key")


def replace_wheel(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / WHEEL).write_bytes(b"another wheel")


def replace_bill(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path = folder / "vmgate-0.1.0.cdx.json"
    path.write_text(path.read_text().replace(sha256(folder / WHEEL), "0" * 64))


def replace_tag(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path = folder / "vmgate-0.1.0.swidtag"
    path.write_text(path.read_text().replace(sha256(folder / SOURCE), "0" * 64))


def second_wheel(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / "vmgate-0.1.1-py3-none-any.whl").write_bytes(b"")


def provenance_by_somebody_else(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    stranger = signer(ec.generate_private_key(ec.SECP384R1()))
    (folder / "vmgate-0.1.0.intoto.json").write_bytes(envelope(statement(built(folder)), stranger))


def provenance_of_less(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    less = Built(subjects={WHEEL: sha256(folder / WHEEL)}, commit=COMMIT, tools={}, source_time="")
    (folder / "vmgate-0.1.0.intoto.json").write_bytes(envelope(statement(less), signer(key)))


def provenance_with_another_payload(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path = folder / "vmgate-0.1.0.intoto.json"
    value = json.loads(path.read_text())
    payload = base64.b64decode(value["payload"]).replace(COMMIT.encode(), b"d" * 40)
    path.write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}))


def no_provenance(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / "vmgate-0.1.0.intoto.json").write_text("[]")


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (replace_wheel, "the provenance is of other files"),
        (replace_bill, "the bill of materials is of another wheel"),
        (replace_tag, "the tag is of another release"),
        (second_wheel, "2 files that could be the wheel"),
        (provenance_by_somebody_else, "the provenance was not signed by this key"),
        (provenance_of_less, "the provenance is of other files"),
        (provenance_with_another_payload, "the provenance was not signed by this key"),
        (no_provenance, "it cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_does_not_belong_together_is_refused_although_the_list_is_signed(
    release: Path, public: Path, key: ec.EllipticCurvePrivateKey, lie: Callable[..., None], told: str
) -> None:
    lie(release, key)
    relist(release, key)
    refused(release, public, told)


def test_a_list_with_a_path_in_it_leads_nowhere(release: Path, public: Path, key: ec.EllipticCurvePrivateKey) -> None:
    for line in ("0" * 64 + "  ../secret", "0" * 64 + " vmgate", "", "0" * 64 + "  .hidden"):
        listed = line.encode() + b"\n"
        (release / SUMS).write_bytes(listed)
        (release / SIGNATURE).write_bytes(signer(key)(listed))
        refused(release, public, "has a line that is none")
