# SPDX-License-Identifier: Apache-2.0
"""kexec: what the kernel's files say, and that a host with a chip is not left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import inhibit
from agent.errors import KexecOpen
from agent.inhibit import Kexec


def kernel(root: Path, *, switch: str | None = None, loaded: str | None = None) -> Path:
    """The kernel's files, below a folder."""
    for name, value in ((inhibit.SWITCH, switch), (inhibit.LOADED, loaded)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        if value is not None:
            (root / name).write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    ("loaded", "outcome", "found"),
    [
        (None, "pass", "no kernel loaded for kexec"),
        ("0", "pass", "no kernel loaded for kexec"),
        ("1", "fail", "a kernel is loaded for kexec"),
        ("what", "fail", "not known"),
    ],
)
def test_a_kernel_that_waits_for_kexec_stands_in_the_way(
    tmp_path: Path, loaded: str | None, outcome: str, found: str
) -> None:
    finding = Kexec(chip=True, root=kernel(tmp_path, loaded=loaded)).finding()
    assert (finding.check, finding.subject, finding.outcome, finding.found) == (
        "boot-continuity", "kexec", outcome, found,
    )  # fmt: skip


def test_what_cannot_be_read_stands_in_the_way(tmp_path: Path) -> None:
    (kernel(tmp_path) / inhibit.LOADED).mkdir()
    assert Kexec(chip=True, root=tmp_path).finding().outcome == "fail"


def test_the_switch_is_turned_on_a_host_with_a_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = kernel(tmp_path, switch="0") / inhibit.SWITCH
    monkeypatch.setattr(inhibit, "SYSCTL", ("sh", "-c", f"echo 1 >{switch}"))
    Kexec(chip=False, root=tmp_path).forbid()
    assert switch.read_text() == "0\n", "with a software TPM the machine stays as it was"
    Kexec(chip=True, root=tmp_path).forbid()
    assert switch.read_text() == "1\n"


@pytest.mark.parametrize("command", [("sh", "-c", "echo no >&2; exit 1"), ("true",), ("/nowhere/sysctl",)])
def test_a_switch_that_does_not_turn_lets_nothing_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(inhibit, "SYSCTL", command)
    with pytest.raises(KexecOpen):
        Kexec(chip=True, root=kernel(tmp_path, switch="0")).forbid()


def test_where_it_is_turned_already_or_there_is_no_kexec_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inhibit, "SYSCTL", ("false",))
    for switch in ("1", None):
        Kexec(chip=True, root=kernel(tmp_path, switch=switch)).forbid()
