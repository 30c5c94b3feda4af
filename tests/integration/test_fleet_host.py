# SPDX-License-Identifier: Apache-2.0
"""A whole host in a fleet: the real agent with swtpm, the real service, and the guide's own commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import command
from lab.command import refused
from lab.fleet_service import READY
from lab.host import Result
from lab.publisher import VMGATE, Desk
from lab.tpm import Manufacturer
from lab.world import World, folder, living, serving

pytestmark = pytest.mark.timeout(400)
GUIDE = Path(__file__).parents[2] / "docs/guide/fleet.md"


def commands() -> list[str]:
    """The commands of the guide's first part, in their order."""
    text = GUIDE.read_text()
    section = text.split("## From nothing", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^    (.+)$", section, re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Site:
    """A fleet, and the one host that it has."""

    folder: Path
    world: World
    port: int

    def place(self, words: str) -> str:
        """The guide's words, with the places of this test."""
        changes = {
            "fleet.example:8443": f"127.0.0.1:{self.port}",
            "fleet.example": "127.0.0.1",
            "0.0.0.0:8443": f"127.0.0.1:{self.port}",
        }
        for old, new in changes.items():
            words = words.replace(old, new)
        return words

    def fleet(self, *words: str) -> Result:
        return command.run(*words, cwd=self.folder, VMGATE_FLEET=str(self.folder / "fleet"))

    def host(self, *words: str) -> Result:
        done = [str(self.folder / word) if word in ("token", "ca.pem") else word for word in words]
        return self.world.host.vmgate(*done)

    def shown(self) -> dict[str, object]:
        done = self.fleet("fleet", "show", "desk-1", "-o", "json")
        assert (done.exit, done.err) == (0, "")
        found: dict[str, object] = json.loads(done.out)
        return found

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [VMGATE, "fleet", "serve", "--folder", self.folder / "fleet"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=(self.folder / "log").open("a"), text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith(READY), (self.folder / "log").read_text()
        return process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def site(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    manufacturer = Manufacturer(tmp_path_factory.mktemp("ca"))
    with (
        serving(desk.repository) as url,
        living("fleet", desk, url, manufacturer=manufacturer) as world,
        folder("fleet-service") as below,
    ):
        world.run("update", "apply")
        shutil.copy(desk.anchor, below / "root.json")
        for channel in ("platform", "workload"):
            (release,) = (desk.repository / f"targets/releases/{channel}").glob("*.1.json")
            shutil.copy(release, below / f"{channel}.json")
        shutil.copy(world.stored("security-policy"), below / "policy.json")
        (below / "vendors").mkdir()
        for path in manufacturer.certificates:
            shutil.copy(path, below / "vendors")
        yield Site(below, world, free_port())


def test_the_guides_commands_lead_to_a_trusted_host(site: Site) -> None:
    service = None
    try:
        for line in commands():
            words = shlex.split(site.place(line))
            if words[0] == "cp":
                # swtpm is a program, and its authority is not believed for chips.
                for path in (site.folder / "vendors").iterdir():
                    shutil.copy(path, site.folder / "fleet/roots/software")
                continue
            assert words.pop(0) == "vmgate"
            if words == ["fleet", "serve"]:
                service = site.start()
                continue
            if words[0] == "host":
                shutil.copy(site.folder / "fleet/tls/ca.pem", site.folder / "ca.pem")
                done = site.host(*words)
            else:
                done = site.fleet(*words)
            assert (done.exit, done.err) == (0, ""), line
            if words[:3] == ["fleet", "token", "create"]:
                (site.folder / "token").write_text(done.out)
            if words[:2] == ["host", "show"]:
                assert "active; found warning, L0" in done.out
            if words[:3] == ["fleet", "hosts", "--standing"]:
                assert "desk-1  trusted" in done.out
        after_the_guide(site)
        attacks_and_failures(site, service)
    finally:
        if service is not None:
            service.kill()
            service.wait()


def after_the_guide(site: Site) -> None:
    """The fleet has the host's whole trail, with a head that its TPM signed; what happens later follows."""
    done = site.host("host", "sync")
    assert (done.exit, done.err) == (0, "")
    shown = site.shown()
    assert shown["standing"] == "trusted"
    trail = site.world.trail()
    assert shown["audit"] == {"sequence": len(trail), "signed": len(trail)}
    assert shown["alarms"] == []
    assert {("fleet-join", "started"), ("fleet-join", "done")} <= {(r.event, r.outcome) for r in trail}
    # Its evidence told of the release, by the signed policy and nothing besides.
    assert shown["release"] == "platform/1"
    assert not [finding for finding in shown["findings"] if finding["outcome"] == "fail"]  # type: ignore[attr-defined]


def attacks_and_failures(site: Site, service: subprocess.Popen[str] | None) -> None:
    token = (site.folder / "token").read_text().strip()
    url = f"https://127.0.0.1:{site.port}"
    join = ("host", "enroll", url, "--ca", "ca.pem")
    before = (site.world.state_folder / "tpm/fleet.json").read_bytes()
    # A token that was used, none, one that is no token; another authority; an address that is none.
    assert refused(site.host(*join, "--token", token), 5).code == "AG191"
    assert refused(site.host(*join, "--token", "00" * 32), 5).code == "AG191"
    assert refused(site.host(*join, "--token", "x"), 2).code == "AG193"
    assert (
        refused(site.host("host", "enroll", "http://127.0.0.1", "--ca", "ca.pem", "--token", token), 2).code == "AG193"
    )
    (site.folder / "other.pem").write_bytes((site.folder / "vendors").joinpath("issuer.pem").read_bytes())
    strange = ("host", "enroll", url, "--token", token, "--ca", str(site.folder / "other.pem"))
    assert refused(site.host(*strange), 8).code == "UP035"
    assert (site.world.state_folder / "tpm/fleet.json").read_bytes() == before
    # The old certificates are believed still.
    assert site.host("host", "sync").exit == 0

    # The fleet has nothing to compare with.
    done = site.fleet("fleet", "reference", "withdraw", "platform", "1")
    assert done.exit == 0
    assert refused(site.host("host", "sync"), 5).code == "AG191"
    assert site.shown()["standing"] == "trusted", "no verdict was invented; the old one runs out by itself"

    # Without a service.
    assert service is not None
    service.terminate()
    assert service.wait(30) == 0
    assert refused(site.host("host", "sync"), 8).code == "UP001"
    assert "failed" in site.host("host", "show").out
    assert site.host("host", "leave").exit == 0
    assert refused(site.host("host", "sync"), 7).code == "AG190"
