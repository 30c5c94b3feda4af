# SPDX-License-Identifier: Apache-2.0
"""What a platform release lets its hosts accept. Absent means no.

Accepting less than the best is spelled out by name. This module does not decide anything; ``measure`` and
``agent.gate`` ask it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields

ALLOWANCES = ("AllowEmulation", "AllowSelfMeasured", "AllowSoftwareTpm")
"""AllowEmulation: QEMU's TCG, which promises no isolation. AllowSelfMeasured: assurance level L1.
AllowSoftwareTpm: assurance level L0."""

DIGESTS = ("always", "once-per-boot")
"""How often a file without fs-verity is read to be measured: before each start; or once in a boot, where only root can
change it. The first is the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy(Document):
    """The rules of one platform release.

    Attributes:
        allow: names from ``ALLOWANCES``, sorted.
        max_vcpus: most virtual processors of one VM.
        max_memory_mib: most memory of one VM, in MiB.
        digests: one of ``DIGESTS``; absent where it is the default.
    """

    TYPE: ClassVar[str] = "vmgate.security-policy"
    LIMIT: ClassVar[int] = 10_000

    allow: tuple[str, ...]
    max_vcpus: int
    max_memory_mib: int
    digests: str = DIGESTS[0]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def allowance(untrusted: Json) -> str:
            if not isinstance(untrusted, str) or untrusted not in ALLOWANCES:
                raise fields.wrong("allow", "names something that is not known")
            return untrusted

        policy = cls(
            allow=fields.take_list("allow", allowance, len(ALLOWANCES)),
            max_vcpus=fields.take_int("max_vcpus", 1, 255),
            max_memory_mib=fields.take_int("max_memory_mib", 64, 2**22),
            digests=fields.take_choice("digests", DIGESTS[1:]) if fields.has("digests") else DIGESTS[0],
        )
        if list(policy.allow) != sorted(set(policy.allow)):
            raise fields.wrong("allow", "is not sorted")
        return policy

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "allow": list(self.allow),
            "max_vcpus": self.max_vcpus,
            "max_memory_mib": self.max_memory_mib,
            **({"digests": self.digests} if self.digests != DIGESTS[0] else {}),
        }
