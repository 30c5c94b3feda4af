# SPDX-License-Identifier: Apache-2.0
"""An assignment: what one host of a fleet may update to, among what its channels offer.

It only takes away: a release that the channel's offline role does not list, or one below the host's floor, stays out
whatever is written here. This module decides nothing; ``updater.client.assigned`` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json, malformed
from documents.document import Document
from documents.fields import NAME, Fields
from documents.release import MAX_NUMBER

MAX_CHANNELS = 16
_ALLOWED = re.compile(r"([^=]+)(?:=([0-9]{1,10})(?:-([0-9]{1,10}))?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which releases of one channel are allowed. Written as a list of three, since a fleet has millions of them.

    Attributes:
        channel: its name.
        lowest: number of the lowest release.
        highest: number of the highest release; equal to ``lowest`` for a pinned one.
    """

    channel: str
    lowest: int = 1
    highest: int = MAX_NUMBER

    def allows(self, number: int) -> bool:
        """Whether a release may be taken."""
        return self.lowest <= number <= self.highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Document):
    """What one host may update to.

    Attributes:
        host: its name in the fleet.
        channels: what it may follow, sorted by channel; of a channel that is not here it keeps what it has.
        locked: it keeps all that it has.
        expires: seconds since 1970 UTC; afterwards the host takes nothing until it has a newer assignment.
    """

    TYPE: ClassVar[str] = "vmgate.assignment"
    LIMIT: ClassVar[int] = 4_000

    host: str
    channels: tuple[Range, ...]
    locked: bool
    expires: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        assignment = cls(
            host=fields.take_name("host"),
            channels=fields.take_list("channels", _read_range, MAX_CHANNELS),
            locked=fields.take_bool("locked"),
            expires=fields.take_int("expires", 0, 2**40),
        )
        names = [allowed.channel for allowed in assignment.channels]
        if names != sorted(set(names)):
            raise fields.wrong("channels", "is not sorted by channel")
        return assignment

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "host": self.host,
            "channels": [[allowed.channel, allowed.lowest, allowed.highest] for allowed in self.channels],
            "locked": self.locked,
            "expires": self.expires,
        }

    def of(self, channel: str) -> Range | None:
        """What is allowed of a channel, if anything."""
        return next((allowed for allowed in self.channels if allowed.channel == channel), None)


def read_allowed(text: str) -> Range:
    """What people write: ``CHANNEL``, ``CHANNEL=NUMBER`` or ``CHANNEL=LOWEST-HIGHEST``.

    Raises:
        DocumentError: it is none of these, or allows nothing.
    """
    match = _ALLOWED.fullmatch(text)
    if match is None or not NAME.fullmatch(match[1]) or len(match[1]) > 63:
        raise malformed("range", f"{text[:80]!r} is not CHANNEL, CHANNEL=NUMBER or CHANNEL=LOWEST-HIGHEST")
    lowest = int(match[2] or 1)
    highest = int(match[3] or match[2] or MAX_NUMBER)
    if not 1 <= lowest <= highest <= MAX_NUMBER:
        raise malformed("range", f"{text!r} allows no release")
    return Range(channel=match[1], lowest=lowest, highest=highest)


def told_allowed(allowed: Range) -> str:
    """The shortest text that ``read_allowed`` reads so."""
    if (allowed.lowest, allowed.highest) == (1, MAX_NUMBER):
        return allowed.channel
    if allowed.lowest == allowed.highest:
        return f"{allowed.channel}={allowed.lowest}"
    return f"{allowed.channel}={allowed.lowest}-{allowed.highest}"


def _read_range(untrusted: Json) -> Range:
    parts = untrusted if isinstance(untrusted, list) else []
    fields = Fields(dict(zip(("channel", "lowest", "highest"), parts, strict=False)), "range of an assignment")
    if len(parts) > 3:
        raise fields.wrong("channel", "has more than three parts")
    allowed = Range(
        channel=fields.take_name("channel"),
        lowest=fields.take_int("lowest", 1, MAX_NUMBER),
        highest=fields.take_int("highest", 1, MAX_NUMBER),
    )
    if allowed.lowest > allowed.highest:
        raise fields.wrong("highest", "is below the lowest")
    return allowed
