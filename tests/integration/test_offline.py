# SPDX-License-Identifier: Apache-2.0
"""Hosts that never see a network, and the stick that goes between them and their publisher; by the guide's own words.

The tests are one story in their order: each goes on with the stick and the host that the one before left.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents.host_state import Floor
from documents.host_status import HostStatus
from lab import command
from lab.clock import at
from lab.command import refused
from lab.host import Result
from lab.publisher import Desk
from lab.refusal import unchanged
from lab.world import VM_NAME, World, copied, living
from updater.formats import delta_part, pack_name

PAGE = Path(__file__).resolve().parents[2] / "docs/guide/offline.md"
LATE = at("+60d")
"""Metadata has expired then, and so have the 30 days that the releases allow a bundle."""


class Guide:
    """The commands of the guide; the stick is a folder here.

    Attributes:
        left: those that nobody has run yet.
    """

    def __init__(self, stick: Path) -> None:
        self._stick = stick
        text = PAGE.read_text().replace("\\\n", " ")
        self._lines = re.findall(r"^    vmgate (.+)$", text, re.MULTILINE)
        self.left = set(self._lines)

    def words(self, beginning: str, nonce: str = "") -> list[str]:
        """The arguments of the one command that begins so."""
        (line,) = [line for line in self._lines if line.startswith(beginning)]
        self.left.discard(line)
        return [
            nonce if word == "HEX" else word.replace("/media/stick", str(self._stick)) for word in shlex.split(line)
        ]


@pytest.fixture(scope="module")
def publisher(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return copied(desk, tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stick")


@pytest.fixture(scope="module")
def guide(stick: Path) -> Guide:
    return Guide(stick)


@pytest.fixture(scope="module")
def world(publisher: Desk) -> Iterator[World]:
    """A host whose settings name no repository."""
    with living("offline", publisher, "") as world:
        yield world


@pytest.fixture(autouse=True)
def off(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").kill_vm()


def _image(publisher: Desk, number: int) -> str:
    """The digest of the image of a workload release."""
    (path,) = (publisher.repository / "targets/releases/workload").glob(f"*.{number}.json")
    (digest,) = [a["fsverity"] for a in json.loads(path.read_bytes())["artifacts"] if a["kind"] == "image"]
    return str(digest)


def _names(bundle: Path) -> set[str]:
    done = command.run("bundle", "inspect", bundle, "-o", "json")
    return {entry["name"] for entry in json.loads(done.out)["entries"]}


def _outcomes(world: World, event: str) -> list[tuple[str, dict[str, str]]]:
    return [(record.outcome, dict(record.details)) for record in world.trail() if record.event == event]


def _imports(world: World, *words: str | Path) -> Result:
    return world.host.vmgate("update", "import", *words)


def test_another_host_has_what_this_one_will_lack(publisher: Desk, stick: Path, guide: Guide) -> None:
    """It comes first, and goes again: it leaves its own word of what it has on the stick."""
    publisher.vmgate(*guide.words("bundle create repository /media/stick/all.bundle"))
    publisher.build_image("2", "hello-2")
    publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=768))
    publisher.release(publisher.write_workload(title="Hello 2", image="hello-2.img", accepts=(2, 9)))
    publisher.vmgate("bundle", "create", publisher.repository, stick / "all-2.bundle")
    with living("other", publisher, "") as other:
        other.run("update", "import", stick / "all-2.bundle")
        other.run("status", "--save", stick / "other.json")
        assert other.generation() == {"platform": 2, "workload": 2}


def test_a_new_host_gets_everything(world: World, guide: Guide) -> None:
    """The bundle was made before release 2."""
    world.run(*guide.words("update import /media/stick/all.bundle"))
    assert world.generation() == {"platform": 1, "workload": 1}


def test_a_bundle_for_another_host_is_refused_and_the_line_says_what_to_do(
    world: World, publisher: Desk, stick: Path
) -> None:
    publisher.vmgate("bundle", "create", publisher.repository, stick / "other.bundle", "--for", stick / "other.json")
    with unchanged(world, "floor", "journal"):
        refusal = refused(_imports(world, stick / "other.bundle"), 3)
    assert (refusal.code, refusal.what) == ("UP003", "the bundle was refused")
    assert "it was made for another host" in refusal.cause
    assert "`vmgate status --save FILE`" in refusal.remedy
    assert "`vmgate bundle create --for FILE`" in refusal.remedy
    assert world.generation() == {"platform": 1, "workload": 1}
    assert [outcome for outcome, _ in _outcomes(world, "update-import")][-2:] == ["started", "failed"]


def test_a_stick_goes_out_and_comes_back_with_little_on_it(
    world: World, publisher: Desk, stick: Path, guide: Guide
) -> None:
    nonce = publisher.vmgate(*guide.words("attest nonce")).strip()
    world.run(*guide.words("status --save"))
    world.run(*guide.words("attest evidence", nonce))
    status = HostStatus.parse((stick / "host.json").read_bytes())
    assert status.releases == (("platform", 1), ("workload", 1))
    old, new = _image(publisher, 1), _image(publisher, 2)
    assert old in status.artifacts
    assert new not in status.artifacts
    assert (publisher.repository / "blobs" / new[:2] / new).stat().st_size >= 1024 * 1024

    publisher.vmgate(*guide.words("bundle create repository /media/stick/host.bundle"))
    names = _names(stick / "host.bundle")
    assert pack_name(new, delta_part(old)) in names
    assert not {name for name in names if new in name} - {pack_name(new, delta_part(old)), pack_name(new, "head")}
    assert (stick / "host.bundle").stat().st_size * 3 < (stick / "all-2.bundle").stat().st_size
    assert "image" in publisher.vmgate(*guide.words("bundle verify"))
    assert publisher.vmgate(*guide.words("bundle inspect")).count("\n") == len(names) + 1
    _judge(world, publisher, guide, nonce)

    world.run(*guide.words("update import /media/stick/host.bundle"))
    assert world.generation() == {"platform": 2, "workload": 2}
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"


def _judge(world: World, publisher: Desk, guide: Guide, nonce: str) -> None:
    """What lies at the verifier's beside the evidence: the releases of then, the host's key and the policy."""
    shutil.copy(world.state_folder / "tpm/ak.pub", publisher.folder)
    for channel in ("platform", "workload"):
        (release,) = (publisher.repository / "targets/releases" / channel).glob("*.1.json")
        shutil.copy(release, publisher.folder / f"{channel}.json")
        for artifact in json.loads(release.read_bytes())["artifacts"]:
            if artifact["kind"] == "security-policy":
                digest = artifact["fsverity"]
                shutil.copy(publisher.repository / "blobs" / digest[:2] / digest, publisher.folder / "policy.json")
    ear = json.loads(publisher.vmgate(*guide.words("attest verify", nonce)))
    assert ear["submods"]["platform"]["ear.status"] in ("warning", 32)


def test_beyond_its_days_a_bundle_needs_somebody_who_answers_for_it(
    world: World, publisher: Desk, stick: Path, guide: Guide
) -> None:
    publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=640))
    late = stick / "late.bundle"
    publisher.vmgate("bundle", "create", publisher.repository, late)
    world.host.power_cycle()
    world.host.start_agent(*LATE)
    with unchanged(world, "journal"):
        assert refused(_imports(world, late), 5).code == "UP012"
        assert refused(_imports(world, late, "--allow-stale", "400", "-y"), 2).code == "AG030"
        assert _outcomes(world, "update-break-glass") == []
        too_few = refused(_imports(world, late, "--allow-stale", "59", "--reason", "in a hurry", "-y"), 5)
        assert (too_few.code, "for 59 days as --allow-stale says" in too_few.cause) == ("UP012", True)
    asked = {"source": str(late), "days": "59", "reason": "in a hurry"}
    assert _outcomes(world, "update-break-glass") == [
        ("started", asked),
        ("refused", {"code": "UP012", "cause": too_few.cause}),
    ]
    # Another byte in what the timestamp's key signed: not even so.
    forged = stick / "forged.bundle"
    forged.write_bytes(late.read_bytes().replace(b'"_type":"timestamp"', b'"_type":"timestamq"'))
    with unchanged(world, "journal"):
        assert refused(_imports(world, forged, "--allow-stale", "400", "--reason", "in a hurry", "-y"), 5)

    said = world.run(*guide.words("update import /media/stick/late.bundle"), "-y")
    assert "its metadata had expired: whether newer releases exist is not known" in said
    assert world.generation() == {"platform": 3, "workload": 2}
    (began, details), (ended, outcome) = _outcomes(world, "update-break-glass")[-2:]
    assert (began, details["days"], details["reason"]) == ("started", "400", "the courier was ill")
    assert (ended, outcome["releases"]) == ("done", "platform 3, workload 2")
    newest = [record for record in world.trail() if record.event == "update-break-glass"][-1]
    assert newest.actor.endswith("(uid 0)")
    assert "confirmed, stale" in world.run("update", "history")
    # The clock was nobody's word: the floor did not follow it.
    assert Floor.parse((world.state_folder / "floor").read_bytes()).time <= time.time()
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"


def test_the_guide_has_no_command_that_was_not_run(guide: Guide) -> None:
    assert guide.left == set()
