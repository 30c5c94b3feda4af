# SPDX-License-Identifier: Apache-2.0
"""The waves of a release: how soon after its publication which share of the hosts takes it on its own.

This module does not know any host, and no clock (``updater.client.waves`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from documents.canonical import Json
from documents.fields import Fields

HOSTS = 1_000
"""Shares are per mille, and so are the places of hosts: 0 to 999."""

MAX_WAVES = 16
MAX_SECONDS = 366 * 86_400
"""The latest wave. A host that follows longer is not protected by waiting any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One step.

    Attributes:
        after: seconds after the publication.
        share: of the hosts, per mille, that have their turn by then.
    """

    after: int
    share: int

    @classmethod
    def read(cls, untrusted: Json) -> Wave:
        """Read one step."""
        fields = Fields(untrusted, "wave")
        wave = cls(after=fields.take_int("after", 0, MAX_SECONDS), share=fields.take_int("share", 1, HOSTS))
        fields.finish()
        return wave

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"after": self.after, "share": self.share}


def read_waves(fields: Fields) -> tuple[Wave, ...]:
    """The optional member ``waves`` of a release: absent, or steps that rise in both and end with everybody."""
    if not fields.has("waves"):
        return ()
    waves = fields.take_list("waves", Wave.read, MAX_WAVES)
    for earlier, later in pairwise(waves):
        if earlier.after >= later.after or earlier.share >= later.share:
            raise fields.wrong("waves", "does not rise with each step")
    if not waves or waves[-1].share != HOSTS:
        raise fields.wrong("waves", "does not end with all hosts")
    return waves
