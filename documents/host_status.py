# SPDX-License-Identifier: Apache-2.0
"""What a host without a network tells those who make bundles for it: what it follows, and what it has.

It is a hint and carries no trust: a wrong one makes a bundle that is too large, or one that the host finds incomplete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import HEX_SHA256, NAME, Fields
from documents.release import AGENT_VERSION, MAX_NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus(Document):
    """One host at one time.

    Attributes:
        time: seconds since 1970 UTC, by the host's clock.
        agent: version of its vmgate.
        host: what it is called in assignments; empty where it follows none.
        channels: that it follows, sorted.
        releases: (channel, number) of the active generation, sorted by channel.
        artifacts: fs-verity digests of what it has, sorted.
    """

    TYPE: ClassVar[str] = "vmgate.host-status"
    LIMIT: ClassVar[int] = 4_000_000

    time: int
    agent: str
    host: str
    channels: tuple[str, ...]
    releases: tuple[tuple[str, int], ...]
    artifacts: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def release(untrusted: Json) -> tuple[str, int]:
            item = Fields(untrusted, "host status")
            pair = (item.take_name("channel"), item.take_int("number", 1, MAX_NUMBER))
            item.finish()
            return pair

        status = cls(
            time=fields.take_int("time", 0, 2**40),
            agent=fields.take_text("agent", AGENT_VERSION, 14),
            host=fields.take_text("host", NAME, 63, empty=True),
            channels=fields.take_texts("channels", NAME, 16, 63),
            releases=fields.take_list("releases", release, 16),
            artifacts=fields.take_texts("artifacts", HEX_SHA256, 50_000, 64),
        )
        for name, values in (("channels", status.channels), ("artifacts", status.artifacts)):
            if list(values) != sorted(values):
                raise fields.wrong(name, "is not sorted")
        named = [channel for channel, _ in status.releases]
        if named != sorted(set(named)):
            raise fields.wrong("releases", "is not sorted by channel")
        return status

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "time": self.time,
            "agent": self.agent,
            "host": self.host,
            "channels": list(self.channels),
            "releases": [{"channel": channel, "number": number} for channel, number in self.releases],
            "artifacts": list(self.artifacts),
        }
