# SPDX-License-Identifier: Apache-2.0
"""What vmgate ships for systemd, the agent's units and the timer by which a host updates itself, and for polkit.

They are files of the package, so a release measures them with it. This module enables and starts nothing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agent.setup import write_new
from content import durable
from content.errors import StorageDenied

NAMES = (
    "vmgate.service", "vmgate.socket", "vmgate-mapper.service", "vmgate-mapper.socket", "vmgate-porter.service",
    "vmgate-porter.socket", "vmgate-update.service", "vmgate-update.timer",
)  # fmt: skip
FOLDER = Path("etc/systemd/system")
PACKAGED = Path("usr/lib/systemd/system")
"""Where the Debian package has them."""


POLICY = Path("usr/share/polkit-1/actions/org.vmgate.policy")
"""What administrators authenticate anew for; polkit reads the shipped actions there only (polkit(8))."""


def install_policy(root: Path) -> tuple[str, ...]:
    """Write polkit's file below ``root``; returns what was done, for people.

    A host can do without, where ``/usr`` is read-only: then the answer to who would authenticate anew is no.

    Raises:
        ContentError: it could not be written for another reason.
    """
    try:
        durable.make_directory((root / POLICY).parent, 0o755)
        write_new(root / POLICY, files("agent").joinpath("units", POLICY.name).read_bytes(), 0o644)
    except StorageDenied as error:
        return (f"no polkit actions, so nobody but root may change trust: {error.cause}",)
    return (f"polkit actions in {root / POLICY}",)


def install_units(root: Path) -> tuple[str, ...]:
    """Write the units below ``root``, unless a package brought them; returns what was done, for people.

    Raises:
        ContentError: one could not be written.
    """
    folder = root / FOLDER
    if (root / PACKAGED / NAMES[0]).exists():
        # A copy would win over the package's, and stay behind at its next upgrade.
        return (f"systemd units in {root / PACKAGED}, which a package brought",)
    durable.make_directory(folder, 0o755)
    for name in NAMES:
        write_new(folder / name, files("agent").joinpath("units", name).read_bytes(), 0o644)
    return (
        f"systemd units in {folder}: {', '.join(NAMES)}",
        "`systemctl enable --now vmgate.service vmgate-update.timer` lets this host update itself",
    )
