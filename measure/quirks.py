# SPDX-License-Identifier: Apache-2.0
"""Boot logs that are not written as the textbook has them, and are accepted all the same: each has a name and a reason.

``measure.bootlog`` notes which of them a log needs; a reader that wants none of one leaves it out of what it accepts.
None makes a log right that does not replay to the TPM's values. A row stands here because a specification allows it or
a real machine does it; another deviation is an error. This module knows no log; it is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One deviation.

    Attributes:
        name: as results name it.
        accepted: what is accepted.
        why: the clause, or the machines.
    """

    name: str
    accepted: str
    why: str


PADDING: Final = Quirk(
    name="padding",
    accepted="one byte repeated behind the last event, 0x00 or 0xff",
    why="a CCEL and some logs are the whole area that firmware reserved (ACPI 6.5, CCEL; PFP 1.06, 10.1)",
)
LOCALITY: Final = Quirk(
    name="startup-locality",
    accepted="PCR 0 starts at 3",
    why="TPM2_Startup came from locality 3 and the log says so (PFP 1.06, 10.4.5.3); many PCs",
)
HCRTM: Final = Quirk(
    name="h-crtm",
    accepted="PCR 0 starts at 4",
    why="hardware measured before TPM2_Startup (TPM 2.0 part 1, H-CRTM); told by StartupLocality or EV_EFI_HCRTM_EVENT",
)
SHA1_ONLY: Final = Quirk(
    name="sha1-format",
    accepted="the older form of the log, which has a SHA-1 bank alone",
    why="firmware for TPM 1.2, and some for TPM 2.0 (PFP 1.06, 10.2.1); such a log proves nothing to an appraisal",
)
UNKNOWN_BANK: Final = Quirk(
    name="unknown-bank",
    accepted="a bank of an algorithm that is not known here, which is read over",
    why="the first event tells the size of its digests for that purpose (PFP 1.06, 10.4.5.1); SM3 in China",
)
DIGEST_ORDER: Final = Quirk(
    name="digest-order",
    accepted="digests of an event in another order than the log announces",
    why="TPML_DIGEST_VALUES has no order (TPM 2.0 part 2, 10.9.6); some firmware of Hyper-V",
)
SILENT_REGISTER: Final = Quirk(
    name="silent-register",
    accepted="EV_NO_ACTION of a PCR that no TPM has",
    why="Windows logs what it does not measure under PCR 4294967295; nothing is extended",
)
MANIFEST: Final = Quirk(
    name="sp800-155",
    accepted="EV_NO_ACTION that names reference manifests, in PCR 0",
    why="PFP 1.06, 10.4.5.2; never extended, and covered by no digest",
)

QUIRKS: Final[Mapping[str, Quirk]] = MappingProxyType(
    {
        quirk.name: quirk
        for quirk in (
            PADDING,
            LOCALITY,
            HCRTM,
            SHA1_ONLY,
            UNKNOWN_BANK,
            DIGEST_ORDER,
            SILENT_REGISTER,
            MANIFEST,
        )
    }
)
"""By name, in the order in which results list them."""
