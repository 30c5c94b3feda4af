# SPDX-License-Identifier: Apache-2.0
"""The content of one event of vmgate's own measurement log. What a TPM is extended with is the hash of these bytes.

An event holds nothing that a publisher could not predict or a verifier could not judge. This module does not hash,
extend or log (``measure`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import SLASHED, Fields

EVENTS = ("component", "epoch", "host", "key-drop", "vm-start", "vm-stop", "vmm-switch")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEvent(Document):
    """One event.

    Attributes:
        event: ``component`` (part of a platform release), ``host`` (host-local), ``vm-start``, ``vm-stop``,
            ``key-drop`` (a VM's secrets are gone), ``epoch`` (older security epochs are shut out),
            ``vmm-switch`` (another platform release within a boot).
        subject: the component, the host-local thing, the VM's name, or the release switched to.
        fsverity: digest of the subject: of the component, of the VM's definition, of the release's references.
    """

    TYPE: ClassVar[str] = "vmgate.event"
    LIMIT: ClassVar[int] = 1_000

    event: str
    subject: str
    fsverity: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            event=fields.take_choice("event", EVENTS),
            subject=fields.take_text("subject", SLASHED, 120),
            fsverity=fields.take_digest("fsverity"),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"event": self.event, "subject": self.subject, "fsverity": self.fsverity}
