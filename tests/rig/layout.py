# SPDX-License-Identifier: Apache-2.0
"""How the host's disk is divided, and its command line. Every number that would else be random is fixed here.

The firmware measures the partition table into PCR 5, so its identifiers are fixed as well.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
SECTOR = 512
BLOCK = 4096

DISK_ID = "6B0A33A1-3D10-4F4C-8C9D-56A1B1D00001"
SALT = "5f1d1e0c7d0f4b6fa0d9c2f57b1f8e0e6a0b64a8f1f34a7d9c0e5d7c2b3a1908"
ROOT_UUID = "6b0a33a1-3d10-4f4c-8c9d-56a1b1d00012"
VERITY_UUID = "6b0a33a1-3d10-4f4c-8c9d-56a1b1d00013"
STATE_UUID = "6b0a33a1-3d10-4f4c-8c9d-56a1b1d00014"
HASH_SEED = "6b0a33a1-3d10-4f4c-8c9d-56a1b1d00015"
VOLUME_ID = "6B0A33A1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition.

    Attributes:
        name: in the partition table.
        type: GUID of its kind (UAPI.2 Discoverable Partitions Specification).
        uuid: its own GUID.
        start: first byte.
        size: bytes.
    """

    name: str
    type: str
    uuid: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.size


ESP = Partition(
    name="vmgate-esp",
    type="C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    uuid="6B0A33A1-3D10-4F4C-8C9D-56A1B1D00002",
    start=MIB,
    size=63 * MIB,
)
ROOT = Partition(
    name="vmgate-root",
    type="4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    uuid="6B0A33A1-3D10-4F4C-8C9D-56A1B1D00003",
    start=ESP.end,
    size=768 * MIB,
)
VERITY = Partition(
    name="vmgate-verity",
    type="2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
    uuid="6B0A33A1-3D10-4F4C-8C9D-56A1B1D00004",
    start=ROOT.end,
    size=8 * MIB,
)
STATE = Partition(
    name="vmgate-state",
    type="4D21B016-B534-45C2-A9FB-5C16E091FD2D",
    uuid="6B0A33A1-3D10-4F4C-8C9D-56A1B1D00005",
    start=VERITY.end,
    size=4096 * MIB,
)
PARTITIONS = (ESP, ROOT, VERITY, STATE)

COMMAND_LINE = (
    "console=ttyS0,115200 ro quiet audit=0 net.ifnames=0 lsm=landlock,lockdown,yama,integrity,apparmor apparmor=1 "
    "ima_hash=sha256 ima_template=ima-sig"
)


def command_line(root_hash: str) -> str:
    """The kernel's command line for a root."""
    return f"{COMMAND_LINE} roothash={root_hash}"
