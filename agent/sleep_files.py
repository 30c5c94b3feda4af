# SPDX-License-Identifier: Apache-2.0
"""Files by which systemd keeps a host from leaving a measured boot in ways that leave its TPM behind.

They hold always, not only while VMs run: a lock of logind (systemd-inhibit(1)) does not tell hibernation from suspend,
and systemd up to 256 lets root pass it. kexec needs no file (``agent.inhibit``). This module enables nothing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agent.setup import write_new
from agent.unit_files import FOLDER
from content import durable

SLEEP = Path("etc/systemd/sleep.conf.d/vmgate.conf")
MASKED = "soft-reboot.target"
"""Userspace starts anew under the same kernel and TPM (systemd-soft-reboot.service(8), since systemd 254)."""

NOWHERE = "/dev/null"


def install_sleep(root: Path) -> tuple[str, ...]:
    """Write the files below ``root``; returns what was done, for people.

    Raises:
        ContentError: one could not be written.
    """
    durable.make_directory((root / SLEEP).parent, 0o755)
    write_new(root / SLEEP, files("agent").joinpath("units", "sleep.conf").read_bytes(), 0o644)
    mask = root / FOLDER / MASKED
    durable.make_directory(mask.parent, 0o755)
    if not mask.is_symlink():
        durable.replace_link(mask, NOWHERE)
    return (f"no hibernation: {root / SLEEP}; no soft reboot: {mask} is masked",)
