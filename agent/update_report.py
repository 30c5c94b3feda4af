# SPDX-License-Identifier: Apache-2.0
"""What is said of updates: offers, outcomes and generations, as plain values for people and programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from documents.canonical import Json
from documents.host_state import Generation, UpdateJournal
from documents.release import Release
from updater.client.candidate import Candidate


def offers(candidate: Candidate, active: Generation | None) -> dict[str, Json]:
    """What is offered, and when its waves bring it to this host by themselves; 0 for now."""
    numbers = {release.channel: release.number for release in active.parsed()} if active else {}
    due = {(release.channel, release.number): release.due for release in candidate.waiting}
    offered: list[Json] = [
        {
            "channel": release.channel,
            "active": numbers.get(release.channel, 0),
            "offered": release.number,
            "urgent": release.urgent,
            "due": due.get((release.channel, release.number), 0),
        }
        for release in map(Release.parse, candidate.resolution.releases)
    ]
    return {"releases": offered, "held_back": [*candidate.resolution.held_back]}


def outcome(
    generation: Generation | None, state: str, candidate: Candidate | None, *, changed: bool, reboot: bool
) -> dict[str, Json]:
    """What an update came to.

    Args:
        generation: that is active now.
        state: where the update stands.
        candidate: what was applied, if anything.
        changed: another generation was active before.
        reboot: it takes effect at the next boot.
    """
    releases = _releases(generation)
    early: list[Json] = [
        {"channel": release.channel, "number": release.number, "due": release.due}
        for release in (candidate.waiting if candidate else ())
        if {"channel": release.channel, "number": release.number} in releases
    ]
    return {
        "changed": changed,
        "generation": generation.number if generation else 0,
        "state": state,
        "stale": generation.stale if generation else False,
        "reboot": reboot,
        "held_back": [*candidate.resolution.held_back] if candidate else [],
        "early": early,
        "releases": releases,
    }


def history(generations: Iterable[Generation], journal: UpdateJournal) -> dict[str, Json]:
    """The generations that are on the disk."""
    told: list[Json] = [
        {
            "generation": generation.number,
            "state": journal.state if generation.number == journal.generation else "previous",
            "stale": generation.stale,
            "releases": _releases(generation),
        }
        for generation in generations
    ]
    return {"generations": told}


def _releases(generation: Generation | None) -> list[Json]:
    return [
        {"channel": release.channel, "number": release.number}
        for release in (generation.parsed() if generation else ())
    ]
