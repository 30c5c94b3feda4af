# SPDX-License-Identifier: Apache-2.0
"""What a site approves of the things that are local to its hosts, such as libvirt's settings; a release carries it.

Unlike a host's own baseline it is for all hosts that follow the channel, so each thing may have several values. This
module judges nothing (``measure.local`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import HEX_SHA256, SLASHED, Fields

MAX_SUBJECTS = 64
MAX_VALUES = 256
"""Values of one thing: as many kinds of hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBaseline(Document):
    """What was approved for all hosts.

    Attributes:
        entries: (subject, digests) as measured events name them, sorted by subject; digests sorted, at least one.
    """

    TYPE: ClassVar[str] = "vmgate.site-baseline"
    LIMIT: ClassVar[int] = 1_500_000

    entries: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        baseline = cls(entries=fields.take_list("entries", _read_entry, MAX_SUBJECTS))
        subjects = [subject for subject, _ in baseline.entries]
        if not subjects or subjects != sorted(set(subjects)):
            raise fields.wrong("entries", "is empty or not sorted by subject")
        return baseline

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"entries": [{"subject": subject, "fsverity": list(digests)} for subject, digests in self.entries]}


def _read_entry(untrusted: Json) -> tuple[str, tuple[str, ...]]:
    fields = Fields(untrusted, "site baseline entry")
    subject = fields.take_text("subject", SLASHED, 120)
    digests = fields.take_texts("fsverity", HEX_SHA256, MAX_VALUES, 64)
    if not digests or list(digests) != sorted(set(digests)):
        raise fields.wrong("fsverity", "is empty or not sorted")
    fields.finish()
    return subject, digests
