# SPDX-License-Identifier: Apache-2.0
"""A release comes to more and more hosts: which may have it now, and when more may, or nobody. Pure.

A rollout caps what plans allow, and adds nothing to it. Hosts are in the order of a hash, so that more of them is never
others of them; those with the canaries' label come first. While it runs or is paused, hosts whose turn it is not get no
more than the release before. It goes on when a stage waited long enough, half of the hosts that were heard run the
release, and no more than the threshold failed; when more did, it pauses by itself, and only people let it go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from documents.assignment import Range
from documents.release import MAX_NUMBER
from fleet.errors import StateWrong
from fleet.states import FAILED, TRUSTED

RUNNING: Final = "running"
PAUSED: Final = "paused"
WITHDRAWN: Final = "withdrawn"
DONE: Final = "done"
STATES: Final = (RUNNING, PAUSED, WITHDRAWN, DONE)

TABLE: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        (RUNNING, "pause"): PAUSED,
        (RUNNING, "withdraw"): WITHDRAWN,
        (RUNNING, "finish"): DONE,
        (PAUSED, "resume"): RUNNING,
        (PAUSED, "withdraw"): WITHDRAWN,
    }
)
"""The state after an event; what is not in it is refused. What was withdrawn comes back as another release."""

SETTLED: Final = 50
"""Per cent of the hosts of a stage that were heard and must run the release before more get it."""

_PLACES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One.

    Attributes:
        name: of it.
        channel, number: of the release.
        label: ``name=text`` of hosts that are first; empty for none.
        stages: per cent of all hosts, rising, the last one 100.
        threshold: per cent of the stage's hosts that may fail.
        wait: minutes that a stage takes at least.
        state: one of ``STATES``.
        stage: index of the present one.
        since: when that began, in seconds since 1970 UTC.
        why: of the state.
    """

    name: str
    channel: str
    number: int
    label: str
    stages: tuple[int, ...]
    threshold: int
    wait: int
    state: str
    stage: int
    since: int
    why: str

    @property
    def release(self) -> str:
        """As verdicts name it."""
        return f"{self.channel}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An active host, as a rollout sees it.

    Attributes:
        host: id.
        labels: ``name=text`` of each.
        standing: see ``fleet.states``.
        follows: its platform channel.
        release: of the platform that its last verdict found.
        troubled: it went back from an update since the stage began, as its audit trail says.
    """

    host: str
    labels: frozenset[str]
    standing: str
    follows: str
    release: str
    troubled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a stage stands, in hosts.

    Attributes:
        share: whose turn it is.
        heard: of these, those with a verdict that counts.
        settled: of these, those that run the release or a newer one; of a workload's all, for no verdict tells.
        failed: of the share, those that failed or went back.
    """

    share: int
    heard: int
    settled: int
    failed: int


def has_turn(rollout: Rollout, host: str, labels: frozenset[str]) -> bool:
    """Whether a host may have the release at the present stage."""
    if rollout.label and rollout.label in labels:
        return True
    place = int.from_bytes(hashlib.sha256(f"{rollout.name}\0{host}".encode()).digest()[:8], "big") % _PLACES
    return place < rollout.stages[rollout.stage] * _PLACES // 100


def cap(rollouts: Iterable[Rollout], channel: str, host: str, labels: frozenset[str]) -> int:
    """The highest release of a channel that a host may have."""
    most = MAX_NUMBER
    for rollout in sorted(rollouts, key=lambda one: one.number, reverse=True):
        if rollout.channel != channel:
            continue
        if rollout.state == DONE:
            break
        if rollout.state in (RUNNING, PAUSED) and has_turn(rollout, host, labels):
            most = min(most, rollout.number)
            break
        most = min(most, rollout.number - 1)
    return most


def capped(
    rollouts: Sequence[Rollout], channels: Sequence[Range], host: str, labels: frozenset[str]
) -> tuple[Range, ...]:
    """What is left of a plan for a host; of a channel of which nothing is left it keeps what it has."""
    left = (
        replace(allowed, highest=min(allowed.highest, cap(rollouts, allowed.channel, host, labels)))
        for allowed in channels
    )
    return tuple(allowed for allowed in left if allowed.lowest <= allowed.highest)


def progress(rollout: Rollout, members: Iterable[Member]) -> Progress:
    """How the present stage stands."""
    share = [one for one in members if has_turn(rollout, one.host, one.labels)]
    heard = [one for one in share if one.standing in (TRUSTED, FAILED)]
    return Progress(
        share=len(share),
        heard=len(heard),
        settled=sum(_has(rollout, one) for one in heard),
        failed=sum(one.standing == FAILED or one.troubled for one in share),
    )


def step(rollout: Rollout, members: Iterable[Member], now: int) -> Rollout:
    """What becomes of a rollout now; one that does not run stays as it is."""
    if rollout.state != RUNNING:
        return rollout
    found = progress(rollout, members)
    if found.failed * 100 > rollout.threshold * max(found.heard, found.failed):
        why = f"{found.failed} of {max(found.heard, found.failed)} hosts failed or went back"
        return replace(rollout, state=after(rollout.state, "pause"), why=why)
    # A clock that went back lets nothing go on.
    if now < rollout.since + 60 * rollout.wait or found.settled * 100 < SETTLED * found.heard:
        return rollout
    if rollout.stage + 1 < len(rollout.stages):
        return replace(rollout, stage=rollout.stage + 1, since=now, why="")
    return replace(rollout, state=after(rollout.state, "finish"), since=now, why="")


def after(state: str, event: str) -> str:
    """The state after an event.

    Raises:
        StateWrong: nothing leads from there by that.
    """
    found = TABLE.get((state, event))
    if found is None:
        possible = ", ".join(sorted(name for known, name in TABLE if known == state)) or "nothing"
        raise StateWrong(
            f"the rollout was not changed: {event}", cause=f"it is {state}", remedy=f"possible is: {possible}"
        )
    return found


def _has(rollout: Rollout, member: Member) -> bool:
    channel, _, number = member.release.partition("/")
    if rollout.channel != member.follows:
        return True
    return channel == rollout.channel and number.isdecimal() and int(number) >= rollout.number
