# SPDX-License-Identifier: Apache-2.0
"""Updates on this host: fetched and verified by ``updater``, and made active only when the VMM fits what they say.

Before a switch, everything that the new platform release names is looked at; what does not fit is refused while the
old generation still stands. After it, the VMM is measured as switched, the host's key must open, and only then the
generation is confirmed. This module does not fetch and does not judge by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.audit_key import AuditKey
from agent.errors import NotReady, Refused
from agent.outside import Outside
from agent.platform import Platform
from agent.vm_keys import VmKeys
from content.store import ContentStore
from documents.canonical import Json
from documents.errors import Exit, VmgateError
from documents.host_state import Generation
from documents.release import Release
from measure.pcr import VMM_PCR
from measure.predict import reference_digest
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.generations import Generations
from updater.client.http import HttpSource
from updater.client.source import Source
from updater.client.transaction import Places, Update

log = logging.getLogger(__name__)


class Updates:
    """Answers ``vmgate update``.

    Args:
        outside: of this host.
        store: where artifacts go.
        platform: measures and appraises.
        keys: the host's key, which must open after a switch.
        audit_key: made with the first release.
    """

    def __init__(
        self, outside: Outside, store: ContentStore, platform: Platform, keys: VmKeys, audit_key: AuditKey
    ) -> None:
        self._outside = outside
        self._store = store
        self._platform = platform
        self._keys = keys
        self._audit_key = audit_key
        self._places = Places.below(outside.paths.state)
        self._update = Update(self._places, outside.anchor, store, outside.version)

    def active(self) -> Generation | None:
        """The active generation."""
        return self._update.active()

    def earlier(self) -> tuple[Release, ...]:
        """Workload releases of the generation before the active one: VMs of it may still run."""
        journal = self._update.journal
        generations = Generations(self._places.generations)
        if journal.previous not in generations.numbers():
            return ()
        return generations.load(journal.previous).workloads

    def require_active(self) -> Generation:
        """The active generation.

        Raises:
            NotReady: there is none yet.
        """
        generation = self.active()
        if generation is None:
            raise NotReady("this host has no release", cause="none was applied yet", remedy="run `vmgate update apply`")
        return generation

    def state(self) -> str:
        """Where the update stands."""
        return self._update.journal.state

    def pending(self) -> bool:
        """Whether a generation is active but not confirmed."""
        return self.state() == "switched"

    def recover(self) -> None:
        """Finish or undo what a power cut left of files."""
        self._update.recover()

    def finish(self) -> None:
        """Measure and confirm a generation that was switched to before the agent ended, or go back."""
        generation = self.active()
        if generation is not None and self.pending():
            with self._recorded("update-finish", "agent"):
                self._settle(generation, None)

    def raise_epoch(self, platform: Release) -> None:
        """After the confirmation, which forbids the way back: shut older security epochs out. Safe to repeat."""
        if self.state() == "confirmed" and self._keys.ready() and self._keys.raise_epoch(platform):
            self._platform.note("epoch", f"epoch/{platform.epoch}", reference_digest(platform.reference))

    def check(self) -> dict[str, Json]:
        """What is offered."""
        candidate = self._update.check(self._web(), self._channels, now=self._outside.clock())
        active = self.active()
        numbers = {release.channel: release.number for release in active.parsed()} if active else {}
        offered: list[Json] = [
            {"channel": release.channel, "active": numbers.get(release.channel, 0), "offered": release.number}
            for release in map(Release.parse, candidate.resolution.releases)
        ]
        held_back: list[Json] = [*candidate.resolution.held_back]
        return {"releases": offered, "held_back": held_back}

    def apply(self, actor: str) -> dict[str, Json]:
        """Update from the repository."""
        with self._recorded("update-apply", actor, source=self._outside.settings.repository):
            return self._apply(self._web())

    def import_bundle(self, path: Path, actor: str) -> dict[str, Json]:
        """Update from a bundle."""
        with self._recorded("update-import", actor, source=str(path)), BundleReader(path) as reader:
            return self._apply(BundleSource(reader))

    def roll_back(self, actor: str) -> dict[str, Json]:
        """Go back to the generation before the active one."""
        with self._recorded("update-rollback", actor):
            left = self.active()
            generation = self._update.roll_back()
            if generation is not None and left is not None:
                self._measure(generation.platform, left.platform)
            return self._told(generation, changed=True)

    def history(self) -> dict[str, Json]:
        """The generations that are on the disk."""
        generations = Generations(self._places.generations)
        journal = self._update.journal
        told: list[Json] = []
        for number in generations.numbers():
            releases: list[Json] = [
                {"channel": release.channel, "number": release.number} for release in generations.load(number).parsed()
            ]
            state = journal.state if number == journal.generation else "previous"
            told.append({"generation": number, "state": state, "releases": releases})
        return {"generations": told}

    @property
    def _channels(self) -> tuple[str, ...]:
        return self._outside.settings.channels

    def _web(self) -> Source:
        if not self._outside.settings.repository:
            raise NotReady(
                "nothing was looked up", cause="vmgate.toml names no repository", remedy="set it, or import a bundle"
            )
        return HttpSource(self._outside.settings.repository)

    def _apply(self, source: Source) -> dict[str, Json]:
        if self.pending():
            raise NotReady("nothing was applied", cause="an update is not confirmed yet", remedy="restart the agent")
        candidate = self._update.check(source, self._channels, now=self._outside.clock())
        old = self.active()
        if not candidate.resolution.new:
            self._repair(source, old)
            return self._told(old, changed=False)
        try:
            self._update.fetch(candidate, source)
            self._update.verify()
            self._update.stage()
            coming = max(map(Release.parse, candidate.resolution.releases), key=lambda r: r.authority == "platform")
            self._require_fit(coming, old.platform if old else None)
        except VmgateError:
            if self._update.journal.state in ("fetched", "verified", "staged"):
                self._update.abandon()
            raise
        self._update.switch()
        generation = self.active()
        if generation is None:
            raise NotReady("nothing was applied", cause="the new generation is gone", remedy="apply it again")
        self._settle(generation, old)
        return self._told(generation, changed=True)

    def _repair(self, source: Source, generation: Generation | None) -> None:
        """Fetch again what is missing or damaged in the store, although nothing is new."""
        for release in generation.parsed() if generation else ():
            fetch_artifacts(source, self._store, release.artifacts)

    def _require_fit(self, coming: Release, old: Release | None) -> None:
        """Refuse a platform release that this host's VMM is not, or that cannot be switched to within this boot."""
        failures = [finding for finding in self._platform.recheck(coming) if finding.outcome == "fail"]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise Refused(
                f"{coming.channel} {coming.number} was not applied",
                cause=failures[0].sentence() + more,
                remedy="install the packages that the release names, then apply it again",
            )
        if old is None or old == coming:
            return
        after = self._platform.predicted(coming)
        if after not in [dict(policy.pcrs).get(VMM_PCR) for policy in coming.policies]:
            raise NotReady(
                f"{coming.channel} {coming.number} was not applied",
                cause=f"it supports no switch within a boot from what this boot measured, {old.channel} {old.number}",
                remedy="reboot, then apply it again",
            )

    def _settle(self, generation: Generation, old: Generation | None) -> None:
        """Measure what was switched to; confirm it if it is trusted and the host's key opens, or go back."""
        try:
            self._measure(generation.platform, old.platform if old else None)
            self._platform.appraise(generation).require_trusted("see `vmgate measure show`")
            self._keys.make_host_key(generation.platform)
            self._keys.open_host_key(generation.platform)
            self._audit_key.make(generation.platform)
        except VmgateError:
            self._update.roll_back()
            raise
        self._update.confirm()
        self.raise_epoch(generation.platform)

    def _measure(self, platform: Release, old: Release | None) -> None:
        if old == platform:
            return
        if self._platform.measured():
            self._platform.switch(platform)
        else:
            self._platform.enter(platform)

    def _told(self, generation: Generation | None, *, changed: bool) -> dict[str, Json]:
        releases: list[Json] = [
            {"channel": release.channel, "number": release.number}
            for release in (generation.parsed() if generation else ())
        ]
        return {
            "changed": changed,
            "generation": generation.number if generation else 0,
            "state": self.state(),
            "stale": generation.stale if generation else False,
            "releases": releases,
        }

    @contextmanager
    def _recorded(self, event: str, actor: str, **details: str) -> Iterator[None]:
        """A record before the act and one with its outcome."""
        audit = self._outside.audit
        audit.append(event, "started", "host", actor, **details)
        try:
            yield
        except VmgateError as error:
            refused = error.exit in (Exit.REFUSED, Exit.POLICY)
            audit.append(event, "refused" if refused else "failed", "host", actor, code=error.code, cause=error.cause)
            raise
        generation = self.active()
        told = ", ".join(f"{r.channel} {r.number}" for r in generation.parsed()) if generation else "none"
        audit.append(event, "done", "host", actor, releases=told)
