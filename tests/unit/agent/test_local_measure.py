# SPDX-License-Identifier: Apache-2.0
"""What is local to a host, measured from real files below a folder: each change shows, and nothing else does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.local_measure import LocalMeasure
from content.fsverity import digest_bytes, digest_file
from documents.host_files import ABSENT
from documents.local_listing import UNREADABLE, ListedFile
from measure.local import (
    COMMAND_LINE,
    HOOKS,
    MORE_SETTINGS,
    PROGRAMS,
    SUBJECTS,
    is_libvirt_program,
    listing_digest,
    programs_digest,
)

DRIVER = "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"
FILES = {
    "usr/sbin/libvirtd": "daemon",
    "usr/sbin/sshd": "another",
    "usr/lib/libvirt/virt-aa-helper": "helper",
    "usr/lib/x86_64-linux-gnu/libvirt.so.0.9000.0": "library",
    DRIVER: "driver",
    "etc/libvirt/qemu.conf": "conf",
    "etc/libvirt/hooks/qemu": "gate",
    "etc/vmgate/vmgate.toml": "settings",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "/hooks/" in name else 0o644)
    return tmp_path


def measured(root: Path) -> dict[str, str]:
    return LocalMeasure(root / "etc/vmgate/vmgate.toml", root / "etc/libvirt/hooks/qemu", root).digests()


def test_all_is_measured_and_what_is_not_there_is_told(root: Path) -> None:
    found = measured(root)
    assert found.keys() == SUBJECTS
    assert found["host/libvirtd"] == digest_bytes(b"daemon")
    assert found["host/libvirtd.conf"] == found["host/virtqemud.conf"] == ABSENT
    assert found[COMMAND_LINE] == digest_bytes(Path("/proc/cmdline").read_bytes())
    assert found[MORE_SETTINGS] == listing_digest(())
    # As a publisher makes them from the same files.
    ours = {f"/{name}": digest_bytes(text.encode()) for name, text in FILES.items() if not name.startswith("etc")}
    assert found[PROGRAMS] == programs_digest(ours)
    assert found[HOOKS] == listing_digest([ListedFile(path="qemu", fsverity=ABSENT)])


def test_what_is_measured_of_this_machines_libvirt_is_what_its_packages_hold() -> None:
    """Debian's own list of the installed packages, and the files it names, digested here."""
    query = ["dpkg-query", "-f", "${db:Status-Abbrev}${Package}\n", "-W", "libvirt*"]
    installed = [line.split()[1] for line in _said(*query) if line.startswith("ii")]
    assert "libvirt-daemon" in installed
    paths = {line for line in _said("dpkg-query", "-L", *installed) if is_libvirt_program(line)}
    plain = {path for path in paths if Path(path).is_file() and not Path(path).is_symlink()}
    assert len(plain) > 10
    held = {path: digest_file(Path(path)).fsverity for path in plain}
    assert LocalMeasure(Path("/nowhere"), Path("/nowhere")).digests()[PROGRAMS] == programs_digest(held)


def _said(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a driver is changed": (PROGRAMS, lambda root: (root / DRIVER).write_text("other")),
    "a driver is added": (PROGRAMS, lambda root: (root / DRIVER).with_name("libvirt_driver_x.so").write_text("x")),
    "a helper is removed": (PROGRAMS, lambda root: (root / "usr/lib/libvirt/virt-aa-helper").unlink()),
    "a hook is added": (HOOKS, lambda root: (root / "etc/libvirt/hooks/daemon").write_text("#!/bin/sh\n")),
    "the gate may not run": (HOOKS, lambda root: (root / "etc/libvirt/hooks/qemu").chmod(0o644)),
    "others may write the gate": (HOOKS, lambda root: (root / "etc/libvirt/hooks/qemu").chmod(0o777)),
    "a file of settings is added": (MORE_SETTINGS, lambda root: _conf_d(root).write_text("x = 1")),
    "a file of settings is a link": (MORE_SETTINGS, lambda root: _conf_d(root).symlink_to("/dev/null")),
    "settings are changed": ("host/settings", lambda root: (root / "etc/vmgate/vmgate.toml").write_text("x")),
    "qemu.conf is removed": ("host/qemu.conf", lambda root: (root / "etc/libvirt/qemu.conf").unlink()),
    "libvirtd.conf is added": ("host/libvirtd.conf", lambda root: (root / "etc/libvirt/libvirtd.conf").touch()),
}


def _conf_d(root: Path) -> Path:
    (root / "etc/vmgate/conf.d").mkdir()
    return root / "etc/vmgate/conf.d/10-site.toml"


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_shows_in_its_own_place(root: Path, change: str) -> None:
    before = measured(root)
    subject, act = CHANGES[change]
    act(root)
    after = measured(root)
    assert {name for name in SUBJECTS if after[name] != before[name]} == {subject}


def test_what_the_gate_itself_holds_is_left_to_the_release(root: Path) -> None:
    before = measured(root)
    (root / "etc/libvirt/hooks/qemu").write_text("another release's")
    assert measured(root) == before


def test_what_is_no_program_of_libvirts_does_not_show(root: Path) -> None:
    before = measured(root)
    (root / "usr/sbin/sshd").write_text("changed")
    (root / "usr/lib/x86_64-linux-gnu/libssl.so.3").write_text("new")
    assert measured(root) == before


def test_a_hook_in_a_subfolder_and_a_folder_of_somebody_else_show(root: Path) -> None:
    folder = root / "etc/libvirt/hooks/qemu.d"
    folder.mkdir(mode=0o755)
    empty = measured(root)[HOOKS]
    assert empty == listing_digest([ListedFile(path="qemu", fsverity=ABSENT)]), "a plain folder alone says nothing"
    (folder / "10 x\n").write_text("x")
    added = measured(root)[HOOKS]
    assert added != empty
    folder.chmod(0o777)
    assert measured(root)[HOOKS] not in (empty, added)


def test_what_cannot_be_read_is_not_measurable_rather_than_absent(root: Path) -> None:
    (root / "etc/libvirt/qemu.conf").unlink()
    (root / "etc/libvirt/qemu.conf").mkdir()
    os.mkfifo(root / "etc/libvirt/libvirtd.conf")
    found = measured(root)
    assert found["host/qemu.conf"] == found["host/libvirtd.conf"] == UNREADABLE


def test_a_folder_with_too_many_files_is_not_measurable(root: Path) -> None:
    folder = root / "etc/libvirt/hooks/qemu.d"
    folder.mkdir()
    for number in range(5_001):
        (folder / str(number)).touch()
    assert measured(root)[HOOKS] == UNREADABLE
