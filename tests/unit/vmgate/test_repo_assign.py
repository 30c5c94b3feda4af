# SPDX-License-Identifier: Apache-2.0
"""``vmgate repo assign`` as whoever runs a fleet uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from documents.errors import Exit
from lab.counting import stamps, touched
from lab.publishing import PASSPHRASE, Publisher
from vmgate.main import run


class Desk:
    """The command over one repository."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.publisher = Publisher(folder)
        self._keys = ["--keys", str(self.publisher.keys), "--passphrase-file", str(folder / "passphrase")]
        (folder / "passphrase").write_bytes(PASSPHRASE)
        self._capsys = capsys

    def __call__(self, verb: str, *arguments: str, keys: bool = True) -> tuple[int, str]:
        """Exit code and what was said, errors included."""
        options = self._keys if keys else []
        code = run(["repo", "assign", verb, str(self.publisher.repository), *arguments, *options])
        told = self._capsys.readouterr()
        return code, told.out + told.err


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_fleet_is_assigned_shown_and_changed(desk: Desk, tmp_path: Path) -> None:
    assert desk("set", "one", "--allow", "platform")[0] == Exit.FAILED
    assert desk("init", "--bits", "3") == (Exit.DONE, "hosts can be assigned now; there are 8 bins for them\n")
    assert desk("init")[0] == Exit.FAILED
    assert desk("list", keys=False) == (Exit.DONE, "HOST  MAY TAKE  LOCKED  EXPIRES\n")
    assert desk("set", "one", "--allow", "platform=2-4", "--allow", "desktop")[1].startswith("1 hosts assigned, 1 bins")
    (tmp_path / "hosts").write_text("two\n\n three \n")
    assert desk("set", "--hosts-from", str(tmp_path / "hosts"), "--allow", "platform=3", "--lock")[0] == Exit.DONE
    code, told = desk("list", "-o", "json", keys=False)
    found = {item["host"]: item for item in json.loads(told)["assignments"]}
    assert code == Exit.DONE
    assert set(found) == {"one", "two", "three"}
    assert found["one"]["channels"] == [["desktop", 1, 2**31], ["platform", 2, 4]]
    assert (found["two"]["channels"], found["two"]["locked"]) == ([["platform", 3, 3]], True)
    assert "desktop, platform 2-4  no" in desk("show", "one", keys=False)[1]
    assert "platform 3  yes" in desk("show", "two", keys=False)[1].replace("    ", "  ")
    assert desk("renew") == (Exit.DONE, "the role and 0 of its bins signed\n")
    assert desk("remove", "one")[0] == Exit.DONE
    assert desk("show", "one", keys=False)[0] == Exit.NOT_FOUND
    assert desk("remove", "one")[0] == Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one", "--allow", "platform=4-2"), "allows no release"),
        (("one", "--allow", "platform=0"), "allows no release"),
        (("one", "--allow", "platform=1-2-3"), "is not CHANNEL"),
        (("one", "--allow", "../x"), "is not CHANNEL"),
        (("one", "--allow", "a" * 64), "is not CHANNEL"),
        (("one", "--allow", "a", "--allow", "a=1"), "a channel is there twice"),
        (("--allow", "a"), "it names no host"),
        (("../one", "--allow", "a"), "is not a host's name"),
        (("one",), "--allow"),
    ],
)
def test_a_mistake_changes_nothing(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    desk("init")
    before = stamps(desk.publisher.repository)
    code, told = desk("set", *arguments)
    assert (code, len(told.splitlines())) == (Exit.USAGE, 1)
    assert said in told
    assert not touched(before, stamps(desk.publisher.repository))
