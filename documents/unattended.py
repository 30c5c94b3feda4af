# SPDX-License-Identifier: Apache-2.0
"""What a host keeps to update itself: its place in the waves, a pause, its last contact, what each VM was started from.

Each carries a version; one written by a newer vmgate is refused (``DocumentNewer``). This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields
from documents.release import MAX_NUMBER
from documents.waves import HOSTS

MAX_TIME = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePlace(Document):
    """Where this host stands in every wave: drawn once at random, never changed, told to nobody.

    Attributes:
        place: 0 comes first, 999 last.
    """

    TYPE: ClassVar[str] = "vmgate.wave-place"
    LIMIT: ClassVar[int] = 1_000

    place: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(place=fields.take_int("place", 0, HOSTS - 1))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"place": self.place}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePause(Document):
    """An administrator's word that this host does not update itself for a while.

    Attributes:
        since: when it was said.
        until: when it ends by itself.
        actor: who said it.
        reason: for people.
    """

    TYPE: ClassVar[str] = "vmgate.update-pause"
    LIMIT: ClassVar[int] = 4_000

    since: int
    until: int
    actor: str
    reason: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        pause = cls(
            since=fields.take_int("since", 0, MAX_TIME),
            until=fields.take_int("until", 0, MAX_TIME),
            actor=fields.take_text("actor", limit=120),
            reason=fields.take_text("reason", limit=300),
        )
        if pause.until <= pause.since:
            raise fields.wrong("until", "is not after its beginning")
        return pause

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"since": self.since, "until": self.until, "actor": self.actor, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContact(Document):
    """When updates were last within this host's reach: looked up with fresh metadata, and fetched if new.

    Attributes:
        time: of that; before the first, when counting began.
        heard: whether there was one at all.
        told: the alarm of this silence stands in the audit trail.
    """

    TYPE: ClassVar[str] = "vmgate.update-contact"
    LIMIT: ClassVar[int] = 1_000

    time: int
    heard: bool
    told: bool

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            time=fields.take_int("time", 0, MAX_TIME), heard=fields.take_bool("heard"), told=fields.take_bool("told")
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"time": self.time, "heard": self.heard, "told": self.told}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningVm(Document):
    """What a VM was started from. It says what the gate let through, and proves nothing by itself.

    Attributes:
        name: of the VM.
        channel: of the workload release that defined it.
        number: of that release.
        definition: fs-verity digest of the definition.
        images: (disk, fs-verity digest of its image), in boot order.
        platform: number of the platform release that it was started on.
        reference: digest of that release's reference values: two releases of the same VMM have the same.
    """

    TYPE: ClassVar[str] = "vmgate.running-vm"
    LIMIT: ClassVar[int] = 20_000

    name: str
    channel: str
    number: int
    definition: str
    images: tuple[tuple[str, str], ...]
    platform: int
    reference: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        running = cls(
            name=fields.take_name("name"),
            channel=fields.take_name("channel"),
            number=fields.take_int("number", 1, MAX_NUMBER),
            definition=fields.take_digest("definition"),
            images=fields.take_list("images", _read_image, 16),
            platform=fields.take_int("platform", 1, MAX_NUMBER),
            reference=fields.take_digest("reference"),
        )
        fields.require_distinct("images", [disk for disk, _ in running.images])
        return running

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "name": self.name,
            "channel": self.channel,
            "number": self.number,
            "definition": self.definition,
            "images": [{"disk": disk, "fsverity": digest} for disk, digest in self.images],
            "platform": self.platform,
            "reference": self.reference,
        }

    def same(self, other: RunningVm) -> bool:
        """Whether a restart would change nothing: the VM and the VMM are the same, whatever number they come with."""
        return (self.definition, self.reference) == (other.definition, other.reference)


def _read_image(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "image")
    pair = (fields.take_name("disk"), fields.take_digest("fsverity"))
    fields.finish()
    return pair
