# SPDX-License-Identifier: Apache-2.0
"""What a verifier keeps of a host that it found good, to see whether the next evidence can follow from it.

It holds no secret and no evidence, only digests and counters. This module does not compare (``measure.seen_before``
does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields
from documents.release import MAX_NUMBER

COUNTS = 2**32 - 1
CLOCK = 2**63 - 1
"""Largest values of TPMS_CLOCK_INFO that canonical JSON holds; a clock of milliseconds never gets there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHost(Document):
    """A host as it was last seen. Digests are SHA-256, 64 hexadecimal characters.

    Attributes:
        ak: digest of the attestation key's TPMT_PUBLIC.
        nonce: digest of the nonce that it answered.
        platform: number of the newest platform release at which it was seen.
        clock: milliseconds of powered-on time.
        reset_count: of its TPM: how often it started anew.
        restart_count: how often it went on since then.
        boot_log: digest of the firmware's log; of nothing where none was sent.
        cel: digest of vmgate's own log.
        cel_length: bytes of that log.
    """

    TYPE: ClassVar[str] = "vmgate.seen-host"
    LIMIT: ClassVar[int] = 2_000

    ak: str
    nonce: str
    platform: int
    clock: int
    reset_count: int
    restart_count: int
    boot_log: str
    cel: str
    cel_length: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            ak=fields.take_digest("ak"),
            nonce=fields.take_digest("nonce"),
            platform=fields.take_int("platform", 1, MAX_NUMBER),
            clock=fields.take_int("clock", 0, CLOCK),
            reset_count=fields.take_int("reset_count", 0, COUNTS),
            restart_count=fields.take_int("restart_count", 0, COUNTS),
            boot_log=fields.take_digest("boot_log"),
            cel=fields.take_digest("cel"),
            cel_length=fields.take_int("cel_length", 0, 8_000_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "ak": self.ak,
            "nonce": self.nonce,
            "platform": self.platform,
            "clock": self.clock,
            "reset_count": self.reset_count,
            "restart_count": self.restart_count,
            "boot_log": self.boot_log,
            "cel": self.cel,
            "cel_length": self.cel_length,
        }
