# SPDX-License-Identifier: Apache-2.0
"""What a power cut leaves beside the agent's files goes at its next start, and nothing else does."""

from __future__ import annotations

from pathlib import Path

from agent.leftovers import remove_leftovers
from agent.paths import HostPaths
from content import durable


def test_leftovers_go_and_files_stay(tmp_path: Path) -> None:
    paths, hook = HostPaths(tmp_path), tmp_path / "etc/libvirt/hooks/qemu"
    files = [hook, paths.audit / "trail.jsonl", paths.sealed_key, paths.vm("desk") / "verdict.json"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"kept")
        durable.temporary(path.parent).write_bytes(b"half")
    (paths.vms / "elsewhere").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    mine = durable.temporary(tmp_path / "other")
    mine.touch()
    remove_leftovers(paths, hook)
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(durable.TEMPORARY)]
    assert left == [mine], "a link was followed"
    assert [path.read_bytes() for path in files] == [b"kept"] * 4


def test_a_new_host_has_none(tmp_path: Path) -> None:
    remove_leftovers(HostPaths(tmp_path), tmp_path / "etc/libvirt/hooks/qemu")
    assert not list(tmp_path.iterdir())
