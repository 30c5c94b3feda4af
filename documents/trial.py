# SPDX-License-Identifier: Apache-2.0
"""The trial of a generation: switched to, not confirmed yet, and judged by what worked before it. Does no I/O.

It carries a version; one written by a newer vmgate is refused (``DocumentNewer``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import NAME, Fields
from documents.release import MAX_NUMBER

MOST_BEGUN = 1_000
WORKED = re.compile(rf"libvirt|vm/{NAME.pattern}")
MOST_WORKED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTrial(Document):
    """What a generation has to show before it is confirmed.

    Attributes:
        generation: its number; a trial of another than the journal's means nothing.
        begun: how often its trial was begun: by an agent that ended before the trial did, once for each.
        worked: what worked before the switch: ``libvirt`` if it answered, and ``vm/NAME`` for each VM that ran; sorted.
    """

    TYPE: ClassVar[str] = "vmgate.update-trial"
    LIMIT: ClassVar[int] = 1_000_000

    generation: int
    begun: int
    worked: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        trial = cls(
            generation=fields.take_int("generation", 1, MAX_NUMBER),
            begun=fields.take_int("begun", 0, MOST_BEGUN),
            worked=fields.take_texts("worked", WORKED, MOST_WORKED, 66),
        )
        if list(trial.worked) != sorted(set(trial.worked)):
            raise fields.wrong("worked", "is not sorted")
        return trial

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"generation": self.generation, "begun": self.begun, "worked": list(self.worked)}
