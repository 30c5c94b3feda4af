# SPDX-License-Identifier: Apache-2.0
"""What a repository offers, verified, alone or beside another's. Pure: ``updater.client.metadata`` finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from documents.assignment import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a repository offers now, verified.

    Attributes:
        releases: the newest release document of each channel, by channel; with an assignment the newest that it
            allows, where it allows one.
        published: when each of these was published, in seconds since 1970 UTC, by channel.
        root: version of the root that was followed.
        time: the latest time that is certain now, in seconds since 1970 UTC.
        stale: metadata had expired, and the releases' ``import_days`` or an administrator allowed it.
        assignment: of this host, if it follows assignments.
        newest: number of the newest release that each channel lists; known with an assignment only.
        recovered: ``time`` replaces the floor's time even where it is lower, see ``updater.client.recovery``.
        besides: newest release document of each channel of the site's repository, by channel.
    """

    releases: Mapping[str, bytes]
    published: Mapping[str, int]
    root: int
    time: int
    stale: bool
    assignment: Assignment | None = None
    newest: Mapping[str, int] = field(default_factory=dict)
    recovered: bool = False
    besides: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, releases: Mapping[str, bytes]) -> Offer:
        """What is active stays: a repository that was not asked offers that."""
        return cls(releases=releases, published=dict.fromkeys(releases, 0), root=0, time=0, stale=False)

    def beside(self, other: Offer) -> Offer:
        """This together with what another repository offers, which no assignment of this one restricts."""
        return replace(
            self,
            besides=other.releases,
            published={**self.published, **other.published},
            time=max(self.time, other.time),
            stale=self.stale or other.stale,
            recovered=self.recovered or other.recovered,
        )
