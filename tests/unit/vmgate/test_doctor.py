# SPDX-License-Identifier: Apache-2.0
"""``vmgate doctor`` on a host that is only files: what an administrator sees at 3 a.m., and what a report holds."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from lab import command

CONF = "security_require_confined = 1\nmac_filter = 1\nlock_manager = 'lockd'\nmax_core = 0\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host that was not set up; its agent does not run."""
    for name, text in (("qemu.conf", CONF + 'user = "root"\n'), ("libvirtd.conf", "listen_tcp = 1\n")):
        path = tmp_path / "etc/libvirt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_is_wrong_comes_with_what_to_do(host: Path) -> None:
    done = command.run("doctor", "--root", host)
    assert done.exit == 7
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[1].startswith("fail ")
    assert any("qemu.conf/user" in line and "would be root" in line for line in lines)
    assert '  qemu.conf/user: write `user = "libvirt-qemu"` into /etc/libvirt/qemu.conf and restart the daemon' in lines
    assert lines[-1].endswith(" fine")


def test_programs_get_all_of_it(host: Path) -> None:
    done = command.run("doctor", "--root", host, "-o", "json")
    told = json.loads(done.out)
    assert told["api_version"] == 1
    advice = {one["check"]: one for one in told["advice"]}
    assert advice["libvirtd.conf/listen_tcp"]["level"] == "fail"
    assert advice["qemu.conf/user"].keys() == {"check", "level", "found", "why", "fix", "sfr"}
    assert "pass" in {one["level"] for one in told["advice"]}


def test_a_report_says_what_it_can_and_hides_what_it_should(host: Path) -> None:
    (host / "etc/vmgate").mkdir()
    (host / "etc/vmgate/vmgate.toml").write_text('repository = "https://ann:pw@10.9.8.7/vmgate"\n')
    archive = host / "report.tar.gz"
    done = command.run("doctor", "--root", host, "--report", archive)
    assert done.exit == 7
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as packed:
        texts = {
            entry.name.partition("/")[2]: packed.extractfile(entry).read().decode()  # type: ignore[union-attr]
            for entry in packed
        }
    assert "qemu.conf/user" in texts["doctor.json"]
    assert texts["settings.toml"] == 'repository = "https://[ADDRESS-1]/vmgate"\n'
    # The agent does not answer: that is said, and is no reason to have no report.
    assert texts["agent-status.json"].startswith("error[AG014]: ")
    assert "10.9.8.7" not in "".join(texts.values())
    assert json.loads(texts["versions.json"])["vmgate"]


def test_a_report_that_cannot_be_written_is_one_line(host: Path) -> None:
    done = command.run("doctor", "--root", host, "--report", host / "none/report.tar.gz")
    command.refused(done, 3)
