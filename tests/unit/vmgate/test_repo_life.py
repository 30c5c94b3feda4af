# SPDX-License-Identifier: Apache-2.0
"""The publisher's command through a repository's life, run as its people run it, each on a machine of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import command
from lab.command import refused, state
from lab.host import Result
from lab.publishing import Publisher
from updater.repository.chain import load_chain


class People:
    """Commands with the passphrase in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.keys = folder / "keys"
        (folder / "passphrase").write_text("only for tests\n")

    def repo(self, *words: str | Path, keys: Path | None = None) -> Result:
        keyed = ("--keys", keys or self.keys) if words[0] not in {"add", "verify"} else ()
        return command.run("repo", *words, *keyed, VMGATE_PASSPHRASE_FILE=str(self.folder / "passphrase"))

    def json(self, *words: str | Path, keys: Path | None = None) -> dict[str, object]:
        done = self.repo(*words, "-o", "json", keys=keys)
        assert done.exit == 0, done.err
        found: dict[str, object] = json.loads(done.out)
        return found

    def move(self, name: str) -> Path:
        """A key goes to a machine of its own."""
        machine = self.folder / f"machine-{name}"
        machine.mkdir()
        (self.keys / f"{name}.pem").rename(machine / f"{name}.pem")
        return machine


@pytest.fixture
def people(tmp_path: Path) -> People:
    found = People(tmp_path)
    assert found.repo("init", found.repository).exit == 0
    return found


def test_a_root_ceremony_on_three_machines(people: People) -> None:
    one, three = people.move("root-1"), people.move("root-3")
    people.move("root-2")
    request = people.folder / "request"
    refusal = refused(people.repo("renew", people.repository, "root"), 4)
    assert (refusal.code, "--request" in refusal.remedy) == ("UP021", True)
    made = people.json("renew", people.repository, "root", "--request", request)
    assert made == {
        "api_version": 1, "purpose": "renew root 2", "parts": [{"role": "root", "version": 2}], "published": False,
    }  # fmt: skip

    assert refused(people.repo("sign", request, "--out", people.folder / "x", keys=one), 2).what == "nothing was signed"
    shown = people.repo("sign", request, keys=one)
    assert shown.out.startswith("its maker says: renew root 2\nroot version 2, valid until ")
    assert people.json("sign", request, keys=one)["signatures"] == 0
    signed = []
    for machine in (one, three):
        signed.append(people.folder / f"{machine.name}.signed")
        done = people.repo("sign", request, "--yes", "--out", signed[-1], keys=machine)
        assert done.exit == 0
        assert done.out == f"1 signatures added, see {signed[-1]}\n"
        assert "root version 2, valid until " in done.err
        assert "root: 2 of 3\n  " in done.err
    before = state(people.repository)
    refusal = refused(people.repo("merge", people.repository, signed[0]), 4)
    assert refusal.cause.startswith("root 2 lacks 1 of the keys ")
    assert state(people.repository) == before
    assert people.json("merge", people.repository, *signed)["published"] is True
    assert refused(people.repo("merge", people.repository, *signed), 6).code == "UP022"
    assert people.json("verify", people.repository)["root"] == 2


def test_a_new_owner_and_a_new_online_key(people: People) -> None:
    other = people.folder / "other"
    public = people.folder / "other.pem"
    key = people.json("keygen", "root", "--public", public, keys=other)
    assert people.json("public", "root-1", keys=other) == key
    old = load_chain(people.repository).root.signed.roles["root"].keyids[0]
    done = people.repo("rotate", people.repository, "root", "--public", public, "--remove", old[:10])
    assert (done.exit, done.out) == (0, "rotate the keys of root: root 2 published\n")
    assert key["id"] in load_chain(people.repository).root.signed.roles["root"].keyids

    made = people.json("rotate", people.repository, "timestamp")
    assert made["parts"] == [{"role": "root", "version": 3}, {"role": "root", "version": 4}]
    assert (people.keys / "timestamp-2.pem").exists()
    (people.keys / "timestamp-1.pem").unlink()
    assert people.repo("refresh", people.repository).exit == 0
    assert people.json("verify", people.repository)["root"] == 4


def test_files_are_added_ahead_of_their_release(people: People) -> None:
    path = people.folder / "disk.img"
    path.write_bytes(bytes(10_000))
    (added,) = people.json("add", people.repository, path)["files"]  # type: ignore[misc]
    digest = command.run("image", "digest", path).out.strip()
    assert (f"sha256:{added['fsverity']}", added["length"]) == (digest, 10_000)
    assert digest in people.repo("add", people.repository, path).out
    assert people.json("verify", people.repository)["blobs"] == 0, "nothing names it yet"


def test_a_release_is_taken_back(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for number in (1, 2):
        publisher.publish_workload(number)
    people = People(tmp_path)
    request = tmp_path / "request"
    made = people.json("revoke", people.repository, "desktop", "2", "--request", request)
    assert made["published"] is False
    assert people.repo("merge", people.repository, request).out == "release desktop 3: releases-desktop 4 published\n"
    refusal = refused(people.repo("revoke", people.repository, "desktop", "2"), 6)
    assert (refusal.code, refusal.cause) == ("PB091", "desktop 3 refuses all of 2 already")
    assert people.json("revoke", people.repository, "desktop", "2", "--to", "1", "--raise-epoch")["published"] is True
    assert refused(people.repo("revoke", people.repository, "platform", "1"), 5).code == "UP015"


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("rotate", "{}", "other"), 3, "UP024"),
        (("rotate", "{}", "root", "--new", "1"), 6, "UP025"),
        (("rotate", "{}", "root", "--key", "root-9"), 3, "KY012"),
        (("rotate", "{}", "root", "--remove", "00000000"), 3, "PB090"),
        (("rotate", "{}", "timestamp", "--public", "/etc/passwd"), 5, "KY011"),
        (("renew", "{}", "snapshot"), 3, "UP024"),
        (("renew", "/nonexistent", "root"), 5, "UP015"),
        (("merge", "{}", "/etc/passwd"), 5, "DC001"),
        (("sign", "/etc/passwd"), 5, "DC001"),
        (("keygen", "other"), 3, "UP024"),
        (("public", "root"), 3, "UP024"),
        (("public", "root-9"), 3, "KY012"),
        (("revoke", "{}", "platform", "1"), 5, "UP015"),
        (("revoke", "{}", "platform", "0"), 2, "VG002"),
        (("add", "/nonexistent", "/etc/passwd"), 5, "UP015"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_each_mistake_is_one_line_and_changes_nothing(
    people: People, words: tuple[str, ...], status: int, code: str
) -> None:
    before = state(people.repository)
    done = people.repo(*(word.replace("{}", str(people.repository)) for word in words))
    assert refused(done, status).code == code
    assert state(people.repository) == before
