# SPDX-License-Identifier: Apache-2.0
"""Our own Secure Boot keys and the firmware variables that hold them. Made anew for each cache, never published.

Two owners: ``own``, whom the host's firmware trusts, and ``other``, whom it does not. Keys lie in the clear: they are
worth nothing outside a test.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from publisher.firmware import SecureBootKeys, enrol
from rig.programs import run
from rig.uki import Signer

OWNER = uuid.UUID("6b0a33a1-3d10-4f4c-8c9d-56a1b1d000aa")
NAMES = ("PK", "KEK", "db")


@dataclass(frozen=True, slots=True)
class Owner:
    """PK, KEK and db of somebody: ``NAME.key`` and ``NAME.pem`` in a folder."""

    folder: Path

    @property
    def certificates(self) -> SecureBootKeys:
        """What is enrolled."""
        platform, exchange, database = (self.folder / f"{name}.pem" for name in NAMES)
        return SecureBootKeys(platform=platform, exchange=exchange, database=database, owner=OWNER)

    @property
    def signer(self) -> Signer:
        """Who signs kernel images."""
        return Signer(self.folder / "db.key", self.folder / "db.pem")


def create(folder: Path) -> Owner:
    """Keys in a folder; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        if not certificate.exists():
            run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
                "-subj", f"/CN=vmgate rig {folder.name} {name}", "-keyout", key, "-out", certificate)  # fmt: skip
    return Owner(folder)


def variables(template: Path, target: Path, owner: Owner, tool: Path) -> Path:
    """Firmware variables with an owner's keys and Secure Boot on."""
    enrol(template, target, owner.certificates, tool)
    return target
