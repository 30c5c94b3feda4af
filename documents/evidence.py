# SPDX-License-Identifier: Apache-2.0
"""What a host shows to be appraised (evidence, RFC 9334 section 8.1): a quote and the logs that explain it.

Nothing in it is trusted before ``measure`` has verified the quote and replayed the logs against it. This module does
not verify anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.baseline import SignedBaseline
from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields, encode_bytes
from documents.identity import Identity

BOOT_LOG_LIMIT = 4_000_000
IMA_LIMIT = 32_000_000
"""Most bytes of the logs of what ran before vmgate."""

COMMAND_LINE_LIMIT = 16_384
"""Most bytes of a kernel command line; the longest of any architecture has 4,096 (COMMAND_LINE_SIZE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Document):
    """A quote with its logs.

    Attributes:
        attest: TPMS_ATTEST as the TPM signed it.
        signature: TPMT_SIGNATURE.
        ak: TPMT_PUBLIC of the attestation key, as the host claims it.
        boot_log: TCG PC Client boot log, binary; empty where the firmware gave none.
        ima: kernel's IMA list, binary; empty where there is none.
        cel: vmgate's own log, TCG Canonical Event Log in JSON, one record a line.
        identity: a ``vmgate.identity``, where the quote answers a challenge; empty and absent elsewhere.
        baseline: a SignedBaseline; empty where the host's administrator approved nothing.
        command_line: the kernel command line, whose digest is in ``cel``; empty where the host does not tell it.
    """

    TYPE: ClassVar[str] = "vmgate.evidence"
    LIMIT: ClassVar[int] = 64_000_000

    attest: bytes
    signature: bytes
    ak: bytes
    boot_log: bytes
    ima: bytes
    cel: bytes
    identity: bytes = b""
    baseline: bytes = b""
    command_line: bytes = b""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            attest=fields.take_bytes("attest", 2_000),
            signature=fields.take_bytes("signature", 1_000),
            ak=fields.take_bytes("ak", 1_000),
            boot_log=fields.take_bytes("boot_log", BOOT_LOG_LIMIT),
            ima=fields.take_bytes("ima", IMA_LIMIT),
            cel=fields.take_bytes("cel", 8_000_000),
            identity=_optional(fields, "identity", Identity.LIMIT),
            baseline=_optional(fields, "baseline", SignedBaseline.LIMIT),
            command_line=_optional(fields, "command_line", COMMAND_LINE_LIMIT),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        members: dict[str, Json] = {
            "attest": encode_bytes(self.attest),
            "signature": encode_bytes(self.signature),
            "ak": encode_bytes(self.ak),
            "boot_log": encode_bytes(self.boot_log),
            "ima": encode_bytes(self.ima),
            "cel": encode_bytes(self.cel),
        }
        optional = {"baseline": self.baseline, "command_line": self.command_line, "identity": self.identity}
        return {**members, **{name: encode_bytes(data) for name, data in optional.items() if data}}


def _optional(fields: Fields, name: str, limit: int) -> bytes:
    if not fields.has(name):
        return b""
    data = fields.take_bytes(name, limit)
    if not data:
        raise fields.wrong(name, "is empty")
    return data
