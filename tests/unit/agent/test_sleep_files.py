# SPDX-License-Identifier: Apache-2.0
"""systemd itself, asked what the files that ``init`` writes mean to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.sleep_files import MASKED, SLEEP, install_sleep


def test_systemd_reads_that_it_must_not_hibernate(tmp_path: Path) -> None:
    install_sleep(tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "cat-config", f"--root={tmp_path}", "systemd/sleep.conf"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if "=" in line and not line.startswith("#")]
    assert said == ["AllowHibernation=no", "AllowHybridSleep=no", "AllowSuspendThenHibernate=no"]
    assert (tmp_path / SLEEP).stat().st_mode & 0o777 == 0o644


def test_systemd_takes_the_soft_reboot_for_masked(tmp_path: Path) -> None:
    for _ in range(2):
        install_sleep(tmp_path)
        done = subprocess.run(
            ["systemctl", f"--root={tmp_path}", "is-enabled", MASKED], capture_output=True, text=True, check=False
        )
        assert done.stdout == "masked\n"
