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
from documents.local_set import PSEUDONYM
from documents.release import Origin

EVENTS = ("component", "epoch", "host", "key-drop", "vm-start", "vm-stop", "vmm-switch")
FROM_A_RELEASE = frozenset({"epoch", "key-drop", "vm-start", "vm-stop"})
"""Events that always name the release behind them, but for those of local VMs. Of a ``component`` and a ``vmm-switch``
it is named if the release names it; what is of the host itself (``host``) came with no release."""

OF_A_VM = FROM_A_RELEASE - {"epoch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEvent(Document):
    """One event.

    Attributes:
        event: ``component`` (part of a platform release), ``host`` (host-local), ``vm-start``, ``vm-stop``,
            ``key-drop`` (a VM's secrets are gone), ``epoch`` (older security epochs are shut out),
            ``vmm-switch`` (another platform release within a boot).
        subject: the component, the host-local thing, the VM's name, or the release switched to; of a local VM its
            pseudonym (``documents.local_set``).
        fsverity: digest of the subject: of the component, of the VM's definition, of the release's references; of a
            local VM a salted digest of its definition.
        origin: the release that the subject came with; in the document the members ``target`` and ``origin_version``.
        vtpm: SHA-256 of the public endorsement key (SubjectPublicKeyInfo, DER) of the TPM that a started VM has; only
            and always in ``vm-start``.
    """

    TYPE: ClassVar[str] = "vmgate.event"
    LIMIT: ClassVar[int] = 1_000

    event: str
    subject: str
    fsverity: str
    origin: Origin | None = None
    vtpm: str = ""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        event = cls(
            event=fields.take_choice("event", EVENTS),
            subject=fields.take_text("subject", SLASHED, 120),
            fsverity=fields.take_digest("fsverity"),
            origin=Origin.take(fields, "origin_version"),
            vtpm=fields.take_digest("vtpm") if fields.has("vtpm") else "",
        )
        event._require_consistent(fields)
        return event

    def _require_consistent(self, fields: Fields) -> None:
        if self.event == "host" and self.origin:
            raise fields.wrong("target", "has no meaning for what is of the host itself")
        if self.local and self.origin:
            raise fields.wrong("target", "has no meaning for a VM that was made on the host itself")
        if self.event in FROM_A_RELEASE and not self.origin and not self.local:
            raise fields.wrong("target", "is missing")
        if (self.event == "vm-start") != bool(self.vtpm):
            raise fields.wrong("vtpm", "is there for another event, or missing for a VM's start")

    @property
    def local(self) -> bool:
        """Whether it is about a local VM: its subject is a pseudonym, its digest salted, and no release is named."""
        return self.event in OF_A_VM and self.subject.startswith(PSEUDONYM)

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        members: dict[str, Json] = {"event": self.event, "subject": self.subject, "fsverity": self.fsverity}
        if self.origin:
            members |= {"target": self.origin.target, "origin_version": self.origin.version}
        if self.vtpm:
            members["vtpm"] = self.vtpm
        return members
