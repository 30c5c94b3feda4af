# SPDX-License-Identifier: Apache-2.0
"""Hooks run in order, with a deadline and a clean environment; one that others could have written never runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audit import AuditTrail, records
from agent.errors import HookFailed, HookUntrusted
from agent.hooks import Hooks

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
NAMES = {"VMGATE_RELEASES": "platform 2"}


class Place:
    """The hooks of a host in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.folder = self.root / "etc/vmgate/hooks"
        self.before = self.folder / "update-before.d"
        self.before.mkdir(parents=True, mode=0o755)
        self.said = folder / "said"
        self.trail = folder / "audit"
        self.audit = AuditTrail(self.trail, lambda: 1_800_000_000, BOOT)

    def hooks(self, seconds: float = 60, owner: int | None = None) -> Hooks:
        return Hooks(self.folder, self.root, self.audit, seconds, os.getuid() if owner is None else owner)

    def add(self, name: str, script: str) -> Path:
        path = self.before / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def outcomes(self) -> list[tuple[str, str]]:
        return [(record.subject, record.outcome) for record in records(self.trail) if record.event == "update-hook"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    tmp_path.chmod(0o755)
    return Place(tmp_path)


def test_they_run_in_the_order_of_their_names_with_named_values_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMGATE_PASSPHRASE_FILE", "/secret")
    place.add("20-second", f"echo second >> {place.said}")
    place.add("10-first", f"env | sort | grep -v -e ^PWD= -e ^SHLVL= -e ^_= > {place.said}; pwd >> {place.said}")
    place.hooks().run("update-before", "test", NAMES)
    assert place.said.read_text().splitlines() == [
        "LC_ALL=C.UTF-8",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "VMGATE_EVENT=update-before",
        "VMGATE_RELEASES=platform 2",
        "/",
        "second",
    ]
    assert place.outcomes() == [
        ("update-before/10-first", "started"),
        ("update-before/10-first", "done"),
        ("update-before/20-second", "started"),
        ("update-before/20-second", "done"),
    ]


def test_without_a_folder_there_is_nothing_to_run(place: Place) -> None:
    place.hooks().run("update-after", "test", NAMES)
    place.hooks().run("update-before", "test", NAMES)
    assert place.outcomes() == []


def test_one_that_says_no_ends_it(place: Place) -> None:
    hook = place.add("10-no", "exit 3")
    place.add("20-second", f"touch {place.said}")
    with pytest.raises(HookFailed) as caught:
        place.hooks().run("update-before", "test", NAMES)
    assert caught.value.cause == f"{hook}: it exited 3"
    assert not place.said.exists()
    assert place.outcomes() == [("update-before/10-no", "started"), ("update-before/10-no", "failed")]


def test_one_that_does_not_end_is_ended_with_all_its_children(place: Place) -> None:
    place.add("10-slow", f"(sleep 3600; touch {place.said}) & echo $! > {place.said}.pid; wait")
    with pytest.raises(HookFailed, match="it was ended after 2 seconds"):
        place.hooks(seconds=2).run("update-before", "test", NAMES)
    child = Path(f"/proc/{(Path(f'{place.said}.pid')).read_text().strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("script", ["kill -9 $$", "exit 1"])
def test_where_a_failure_changes_nothing_it_is_told(place: Place, script: str) -> None:
    place.add("10-no", script)
    assert place.hooks().try_run("update-before", "test", NAMES).startswith("error[AG018]: the hook 10-no failed; ")
    assert place.outcomes()[-1] == ("update-before/10-no", "failed")


def test_one_that_is_no_program_is_told(place: Place) -> None:
    hook = place.add("10-none", "")
    hook.write_bytes(b"\x7fELF nothing")
    with pytest.raises(HookFailed, match="could not be started"):
        place.hooks().run("update-before", "test", NAMES)


def _group_may_write(place: Place) -> None:
    (place.before / "20-last").chmod(0o775)


def _others_may_write(place: Place) -> None:
    (place.before / "20-last").chmod(0o757)


def _folder_of_others(place: Place) -> None:
    place.before.chmod(0o777)


def _way_of_others(place: Place) -> None:
    (place.root / "etc").chmod(0o777)


def _link(place: Place) -> None:
    (place.before / "20-last").rename(place.root / "elsewhere")
    (place.before / "20-last").symlink_to(place.root / "elsewhere")


def _linked_folder(place: Place) -> None:
    place.before.rename(place.root / "elsewhere")
    place.before.symlink_to(place.root / "elsewhere")


def _dangling_folder(place: Place) -> None:
    place.before.rename(place.root / "elsewhere")
    place.before.symlink_to(place.root / "nowhere")


def _not_executable(place: Place) -> None:
    (place.before / "20-last").chmod(0o644)


def _folder_in_it(place: Place) -> None:
    (place.before / "30-folder").mkdir()


def _pipe_in_it(place: Place) -> None:
    os.mkfifo(place.before / "30-pipe", 0o755)


@pytest.mark.parametrize(
    "spoil",
    [
        _group_may_write, _others_may_write, _folder_of_others, _way_of_others, _link, _linked_folder, _dangling_folder,
        _not_executable, _folder_in_it, _pipe_in_it,
    ],
)  # fmt: skip
def test_none_runs_where_others_had_a_hand_in_one(place: Place, spoil: Callable[[Place], None]) -> None:
    place.add("10-first", f"touch {place.said}")
    place.add("20-last", f"touch {place.said}")
    spoil(place)
    with pytest.raises(HookUntrusted):
        place.hooks().run("update-before", "test", NAMES)
    assert not place.said.exists(), "not even the first, which is as it should be"
    assert place.outcomes() == [("update-before", "refused")]


def test_they_must_belong_to_root(place: Place) -> None:
    place.add("10-first", f"touch {place.said}")
    with pytest.raises(HookUntrusted, match=f"it belongs to user {os.getuid()}"):
        place.hooks(owner=os.getuid() + 1).run("update-before", "test", NAMES)
    assert not place.said.exists()
