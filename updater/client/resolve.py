# SPDX-License-Identifier: Apache-2.0
"""Which of the offered releases become the next generation. Pure.

A release is usable if

1. it is not older than the active one of its channel, nor another document of the same number;
2. this vmgate is new enough for it;
3. none of its artifacts is refused by any release offered or active; an active release may stay, since a revocation
   must not wait for its publisher, and the host refuses to start what is refused;
4. it has not failed on this host before;
5. its wave has reached this host, where the caller says that waves count.

Of usable releases, offered before active, the platform release counts first; each workload takes its first release
that accepts the platform. What does not fit is held back with its reason. Each channel changes as a whole or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from content.fsverity import digest_bytes
from documents.host_state import Generation
from documents.release import Release
from updater.errors import BelowFloor, Incompatible, MetadataRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What to do.

    Attributes:
        releases: the next generation's release documents, sorted by channel.
        new: they differ from the active ones.
        held_back: why offered releases were not taken, for people.
    """

    releases: tuple[bytes, ...]
    new: bool
    held_back: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    data: bytes
    release: Release

    def __str__(self) -> str:
        return f"{self.release.channel} {self.release.number}"


def resolve(
    offered: Mapping[str, bytes],
    active: Generation | None,
    *,
    refused: Collection[str],
    agent: str,
    waiting: Collection[str] = (),
) -> Resolution:
    """Choose releases.

    Args:
        offered: the newest release document of each channel that this host follows, by channel.
        active: the generation now.
        refused: digests of release documents that have failed on this host.
        agent: version of this vmgate, ``major.minor.patch``.
        waiting: channels whose offered release is not due on this host yet.

    Raises:
        BelowFloor: something older than the active release is offered.
        MetadataRefused: another document of the same number is offered.
        Incompatible: no choice fits, or there is not exactly one platform channel.
        DocumentError: a release is malformed.
    """
    new = {channel: _option(data) for channel, data in offered.items()}
    old = {option.release.channel: option for option in map(_option, active.releases if active else ())}
    held_back: list[str] = []
    options: dict[str, list[_Option]] = {}
    banned = {digest for option in (*new.values(), *old.values()) for digest in option.release.refused}
    for channel, option in new.items():
        options[channel] = []
        current = old.get(channel)
        _require_successor(option, current)
        for candidate in [option] if current is None or current == option else [option, current]:
            # What is active works here, whatever was remembered; the gate refuses what of it is refused.
            kept = candidate == current
            why = _unusable(candidate, () if kept else banned, () if kept else refused, agent)
            if why is None and not kept and channel in waiting:
                why = "its wave has not reached this host"
            if why is None:
                options[channel].append(candidate)
            else:
                held_back.append(f"{candidate}: {why}")
    chosen = _choose(options, _platform_channel(new), held_back)
    releases = tuple(option.data for _, option in sorted(chosen.items()))
    return Resolution(releases=releases, new=active is None or releases != active.releases, held_back=tuple(held_back))


def _option(data: bytes) -> _Option:
    return _Option(data=data, release=Release.parse(data))


def _platform_channel(offered: Mapping[str, _Option]) -> str:
    channels = [channel for channel, option in offered.items() if option.release.authority == "platform"]
    if len(channels) != 1:
        raise _incompatible(f"{len(channels)} of the channels are platform channels, and a host follows exactly one")
    return channels[0]


def _require_successor(offered: _Option, current: _Option | None) -> None:
    if current is None or offered.data == current.data:
        return
    if offered.release.number < current.release.number:
        raise BelowFloor(
            "the update was refused",
            cause=f"{offered} is offered and {current} is active",
            remedy="ask the publisher why something older is offered",
        )
    if offered.release.number == current.release.number:
        raise MetadataRefused(
            "the update was refused",
            cause=f"{offered} is offered with other content than the active release of that number",
            remedy="ask the publisher: a release never changes once it is published",
        )
    if offered.release.authority != current.release.authority:
        raise _incompatible(f"{offered} changes the channel from {current.release.authority} to another authority")


def _unusable(option: _Option, banned: Collection[str], refused: Collection[str], agent: str) -> str | None:
    if _version(agent) < _version(option.release.minimum_agent):
        return f"needs vmgate {option.release.minimum_agent} and this is {agent}"
    for artifact in option.release.artifacts:
        if artifact.fsverity in banned:
            return f"{artifact.name} is refused by its publisher"
    if digest_bytes(option.data) in refused:
        return "failed or was rolled back on this host before"
    return None


def _choose(options: Mapping[str, list[_Option]], platform_channel: str, held_back: list[str]) -> dict[str, _Option]:
    for platform in options[platform_channel]:
        chosen = {platform_channel: platform}
        for channel, candidates in options.items():
            fitting = [option for option in candidates if _accepts(option, platform)]
            if channel != platform_channel and fitting:
                chosen[channel] = fitting[0]
                held_back += [f"{o}: does not run on {platform}" for o in candidates[: candidates.index(fitting[0])]]
        if len(chosen) == len(options):
            return chosen
        missing = ", ".join(sorted(options.keys() - chosen.keys()))
        held_back.append(f"{platform}: no release of {missing} runs on it")
    raise _incompatible("; ".join(held_back)[:500] or "no release is usable")


def _accepts(option: _Option, platform: _Option) -> bool:
    lowest, highest = option.release.accepts
    return lowest <= platform.release.number <= highest


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _incompatible(why: str) -> Incompatible:
    return Incompatible("the update was not applied", cause=why, remedy="wait for a release that fits, or ask for one")
