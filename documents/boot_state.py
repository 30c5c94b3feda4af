# SPDX-License-Identifier: Apache-2.0
"""Which start of the kernel and which start of the TPM belong together, as a host noted it. This module does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import UUID, Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState(Document):
    """One kernel and the TPM beneath it.

    Attributes:
        boot: the kernel's boot id; a kernel that sleeps or hibernates keeps it.
        resets: the TPM's resetCount.
        restarts: the TPM's restartCount.
    """

    TYPE: ClassVar[str] = "vmgate.boot-state"
    LIMIT: ClassVar[int] = 1_000

    boot: str
    resets: int
    restarts: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            boot=fields.take_text("boot", UUID, 36),
            resets=fields.take_int("resets", 0, 2**32 - 1),
            restarts=fields.take_int("restarts", 0, 2**32 - 1),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"boot": self.boot, "resets": self.resets, "restarts": self.restarts}
