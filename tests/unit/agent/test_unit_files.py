# SPDX-License-Identifier: Apache-2.0
"""The systemd units that vmgate ships are what systemd reads, and each is in its box."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.unit_files import FOLDER, NAMES, PACKAGED, POLICY, install_policy, install_units
from lab.crash import intercepted

VMGATE = "/usr/lib/vmgate/bin/vmgate"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    install_units(tmp_path)
    return tmp_path / FOLDER


def test_init_writes_them(units: Path) -> None:
    assert sorted(path.name for path in units.iterdir()) == sorted(NAMES)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in units.iterdir())
    for name in ("vmgate.service", "vmgate-update.service"):
        assert f"ExecStart={VMGATE} " in (units / name).read_text()


def test_where_a_package_brought_them_none_is_written(tmp_path: Path) -> None:
    brought = tmp_path / PACKAGED / "vmgate.service"
    brought.parent.mkdir(parents=True)
    brought.touch()
    (said,) = install_units(tmp_path)
    assert "which a package brought" in said
    assert not (tmp_path / FOLDER).exists()


def test_polkits_actions_are_written_where_polkit_reads_them(tmp_path: Path) -> None:
    (said,) = install_policy(tmp_path)
    assert str(tmp_path / POLICY) in said
    assert (tmp_path / POLICY).stat().st_mode & 0o777 == 0o644
    assert '<action id="org.vmgate.roles">' in (tmp_path / POLICY).read_text()


def test_a_host_whose_usr_is_read_only_does_without(tmp_path: Path) -> None:
    def read_only(name: str, real: Callable[..., object], arguments: tuple[object, ...]) -> object:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with intercepted(read_only):
        (said,) = install_policy(tmp_path)
    assert said.startswith("no polkit actions, so nobody but root may change trust: ")


def test_systemd_has_nothing_to_say_about_them(units: Path) -> None:
    for path in units.iterdir():
        # vmgate is not installed there on this machine.
        path.write_text(path.read_text().replace(VMGATE, "/bin/true"))
    done = _analyze("verify", "--man=no", *map(str, units.iterdir()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_name_a_mistake(units: Path) -> None:
    timer = units / "vmgate-update.timer"
    timer.write_text(timer.read_text().replace("Persistent", "Persistant"))
    assert "Persistant" in _analyze("verify", "--man=no", str(timer)).stderr


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("vmgate.service", 29),
        ("vmgate-mapper.service", 10),
        ("vmgate-porter.service", 42),
        ("vmgate-update.service", 20),
    ],
)
def test_each_service_is_in_a_box(name: str, most: int, units: Path) -> None:
    """Of 100 for nothing, systemd's own measure; its figure has one digit less: under 3 for the agent.

    The porter mounts for others, so it cannot have mounts of its own, which is most of what is measured.
    """
    assert _exposed(units / name, most).returncode == 0, _exposed(units / name, most).stdout


def test_the_measure_notices_a_hole_in_the_box(units: Path) -> None:
    agent = units / "vmgate.service"
    agent.write_text(agent.read_text().replace("CAP_SETUID", "CAP_SETUID CAP_SYS_ADMIN"))
    assert _exposed(agent, 29).returncode != 0


def test_the_agent_alone_talks_to_the_network_and_the_helper_alone_to_the_device_mapper(units: Path) -> None:
    agent, mapper = ((units / f"{name}.service").read_text() for name in ("vmgate", "vmgate-mapper"))
    assert "AF_INET" in agent
    assert "RestrictAddressFamilies=AF_UNIX\n" in mapper
    assert "CAP_SYS_ADMIN" not in agent
    assert "CapabilityBoundingSet=CAP_SYS_ADMIN\n" in mapper


def test_the_socket_outlives_the_agent_and_nobody_but_root_connects(units: Path) -> None:
    lines = (units / "vmgate.socket").read_text().splitlines()
    assert {"ListenStream=/run/vmgate/agent.sock", "SocketMode=0600"} <= set(lines)
    assert not any(line.startswith(("PartOf=", "BindsTo=")) for line in lines)


def test_the_timer_is_jittered_and_makes_up_for_what_was_missed(units: Path) -> None:
    text = (units / "vmgate-update.timer").read_text().splitlines()
    assert {"OnCalendar=hourly", "RandomizedDelaySec=55min", "FixedRandomDelay=yes", "Persistent=yes"} <= set(text)


def _exposed(unit: Path, most: int) -> subprocess.CompletedProcess[str]:
    return _analyze("security", "--offline=yes", f"--threshold={most}", str(unit))


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
