# SPDX-License-Identifier: Apache-2.0
"""Updates on this host: fetched and verified by ``updater``, and made active only when the VMM fits what they say.

Before a switch, everything that the new platform release names is looked at; what does not fit is refused while the
old generation still stands. After it, the VMM is measured as switched, the host's key must open, and only then the
generation is confirmed. This module does not fetch and does not judge by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from agent import update_report
from agent.audit_key import AuditKey
from agent.break_glass import BreakGlass
from agent.contact import Contact
from agent.errors import NotReady, PolicyRefused, Refused
from agent.outside import Outside
from agent.platform import Platform
from agent.progress import Transfer
from agent.resealing import Resealing
from agent.setup import renew_hook
from agent.transport import web
from agent.vm_keys import VmKeys
from agent.wave_place import wave_place
from content.store import ContentStore
from documents.canonical import Json
from documents.errors import Exit, VmgateError
from documents.host_state import Floor, Generation
from documents.release import Release
from documents.verdict import NotTrusted, Verdict
from measure.errors import SealShut
from measure.predict import reference_digest
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.candidate import Candidate
from updater.client.download import fetch_artifacts
from updater.client.generations import Generations
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
        turn: held while generations switch, see ``agent.launch``.
        contact: told when updates were within reach.
        resealing: keeps the host's key sealed as the releases want it.

    Attributes:
        transfer: how far the running update has come with fetching.
    """

    def __init__(
        self,
        outside: Outside,
        store: ContentStore,
        platform: Platform,
        keys: VmKeys,
        audit_key: AuditKey,
        turn: AbstractContextManager[bool],
        contact: Contact,
        resealing: Resealing,
    ) -> None:
        self._outside = outside
        self._store = store
        self._platform = platform
        self._keys = keys
        self._audit_key = audit_key
        self._turn = turn
        self._contact = contact
        self._resealing = resealing
        self._places = Places.below(outside.paths.state)
        self._generations = Generations(self._places.generations)
        self._update = Update(
            self._places, outside.anchor, store, outside.version, host=outside.settings.host, witness=self._lowest
        )
        self.transfer = Transfer()

    def _lowest(self) -> Floor | None:
        """The floor that the TPM vouches for, as far as it opens the host's key now."""
        generation = self.active()
        return self._resealing.lowest(generation.platform) if generation else None

    def active(self) -> Generation | None:
        """The active generation."""
        return self._update.active()

    def earlier(self) -> tuple[Release, ...]:
        """Workload releases of the other generations on the disk: VMs of them may still run."""
        active = self.active()
        others = [self._generations.load(n) for n in self._generations.numbers() if active and n != active.number]
        return tuple(release for generation in others for release in generation.workloads)

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

    def settled(self) -> bool:
        """Whether what is active is confirmed and sound, so that a VM that stops can start again."""
        generation = self.active()
        if generation is None or self.pending():
            return False
        try:
            _require_sound(self._platform.appraise(generation), STILL_RUNNING)
        except VmgateError:
            return False
        return True

    def recover(self) -> None:
        """Finish or undo what a power cut left of files."""
        self._update.recover()

    def finish(self) -> None:
        """Measure and confirm a generation that was switched to before the agent ended, or go back."""
        generation = self.active()
        if generation is not None and self.pending():
            previous = self._update.journal.previous
            old = self._generations.load(previous) if previous else None
            if self._in_this_boot(generation.platform, old):
                with self._recorded("update-finish", "agent"), self._turn:
                    self._settle(generation, old)

    def follow(self, platform: Release) -> None:
        """After the confirmation, which forbids the way back: let the host's keys follow the release. Safe to repeat.

        A key that somebody removed, because this TPM opens it no more, is made anew.
        """
        if self.state() != "confirmed":
            return
        self._make_keys(platform)
        digest = reference_digest(platform.reference)
        # What is kept in memory was opened in the epoch that may end here.
        self._keys.forget()
        subject, origin = f"epoch/{platform.epoch}", platform.origin
        self._resealing.follow(platform, lambda: self._platform.note("epoch", subject, digest, origin))
        # A policy key is replaced together with the epoch.
        self._audit_key.follow(platform)

    def check(self) -> dict[str, Json]:
        """What is offered, and when its waves bring it to this host by themselves."""
        candidate = self._look_up(self._web(), wait=False)
        if not candidate.resolution.new:
            self.heard(candidate)
        return update_report.offers(candidate, self.active())

    def look_up(self) -> Candidate:
        """What is due on this host by itself."""
        return self._look_up(self._web(), wait=True)

    def heard(self, candidate: Candidate) -> None:
        """This host is in contact: nothing was there to be fetched, or it was fetched, or is not to be fetched yet."""
        if not candidate.stale:
            self._contact.heard()

    def new_of(self, candidate: Candidate) -> tuple[Release, ...]:
        """The releases of a candidate that are not active."""
        active = self.active()
        kept = active.releases if active else ()
        return tuple(Release.parse(data) for data in candidate.resolution.releases if data not in kept)

    def apply_found(self, candidate: Candidate, actor: str) -> dict[str, Json]:
        """Update to what ``look_up`` found."""
        with self._recorded("update-unattended", actor, source=self._outside.settings.repository):
            return self._install(self._web(), candidate)

    def apply(self, actor: str) -> dict[str, Json]:
        """Update from the repository."""
        with self._recorded("update-apply", actor, source=self._outside.settings.repository):
            return self._apply(self._web())

    def import_bundle(self, path: Path, actor: str, glass: BreakGlass | None = None) -> dict[str, Json]:
        """Update from a bundle; with ``glass`` also from one that is beyond its days."""
        event, details = ("update-break-glass", glass.details()) if glass else ("update-import", {})
        with self._recorded(event, actor, source=str(path), **details), BundleReader(path) as reader:
            return self._apply(BundleSource(reader), allow_stale=glass.days if glass else 0)

    def roll_back(self, actor: str) -> dict[str, Json]:
        """Go back to the generation before the active one."""
        with self._recorded("update-rollback", actor):
            left = self.require_active()
            previous = self._update.journal.previous
            if previous:
                back = self._generations.load(previous).platform
                self._require_components(back)
                # A pending one has not had its key sealed anew: what was sealed for the earlier one still is.
                if not self.pending() and not self._in_this_boot(back, left):
                    self._resealing.try_to_seal_ahead(back, left.platform)
            with self._turn:
                generation = self._update.roll_back()
                if generation is not None and self._platform.can_change(generation.platform):
                    self._measure(generation.platform, left.platform)
            return self._told(generation, changed=True)

    def history(self) -> dict[str, Json]:
        """The generations that are on the disk."""
        generations = map(self._generations.load, self._generations.numbers())
        return update_report.history(generations, self._update.journal)

    @property
    def _channels(self) -> tuple[str, ...]:
        return self._outside.settings.channels

    def _web(self) -> Source:
        return web(self._outside.settings)

    def _apply(self, source: Source, *, allow_stale: int = 0) -> dict[str, Json]:
        if self.pending():
            raise NotReady(
                "nothing was applied",
                cause="an update is not confirmed yet",
                remedy="reboot, or `vmgate update rollback`",
            )
        candidate = self._look_up(source, wait=False, allow_stale=allow_stale)
        if not candidate.resolution.new:
            self.heard(candidate)
            old = self.active()
            self._repair(source, old)
            self._require_nothing_held_back(candidate)
            return self._told(old, changed=False)
        return self._install(source, candidate)

    def _look_up(self, source: Source, *, wait: bool, allow_stale: int = 0) -> Candidate:
        """Look up what is offered; ``wait`` holds back what is not due here yet. Waves have no meaning for a bundle."""
        place = None if source.offline else wave_place(self._outside.paths.wave_place)
        now = self._outside.clock()
        candidate = self._update.check(source, self._channels, now=now, place=place, wait=wait, allow_stale=allow_stale)
        if candidate.recovered:
            self._outside.audit.append("floor-time", "done", "host", "agent", sank_to=str(now))
        return candidate

    def _install(self, source: Source, candidate: Candidate) -> dict[str, Json]:
        old = self.active()
        try:
            with self.transfer.running() as tell:
                self._update.fetch(candidate, source, tell)
            self.heard(candidate)
            self._update.verify()
            self._update.stage()
            coming = _platform_of(candidate)
            self._require_components(coming)
            if old is not None and not self._in_this_boot(coming, old):
                self._resealing.seal_ahead(coming, old.platform)
        except VmgateError:
            self._update.give_up()
            raise
        with self._turn:
            self._update.switch()
            generation = self.require_active()
            if self._in_this_boot(generation.platform, old):
                self._settle(generation, old)
        self._update.collect()
        return self._told(generation, changed=True, candidate=candidate)

    def _require_nothing_held_back(self, candidate: Candidate) -> None:
        if candidate.resolution.held_back:
            raise PolicyRefused(
                "the update was not applied",
                cause="; ".join(candidate.resolution.held_back)[:500],
                remedy="wait for a release that fits, or ask for one",
            )

    def _repair(self, source: Source, generation: Generation | None) -> None:
        """Fetch again what is missing or damaged in the store, although nothing is new."""
        releases = generation.parsed() if generation else ()
        artifacts = [artifact for release in releases for artifact in release.artifacts]
        self._store.require_room({artifact.fsverity: artifact.length for artifact in artifacts})
        with self.transfer.running() as tell:
            # Most of a damaged one is good.
            fetch_artifacts(source, self._store, artifacts, tell, artifacts)

    def _in_this_boot(self, platform: Release, old: Generation | None) -> bool:
        """Whether a platform can be measured now.

        If nobody signed a switch to it from what this boot measured, it waits for the next boot, which measures nothing
        but it; until then it is unconfirmed and no VM starts.
        """
        same = old is not None and old.platform == platform
        return same or self._platform.can_change(platform)

    def _require_components(self, release: Release) -> None:
        hook = next((value.fsverity for value in release.reference if value.component == "vmgate/hook"), "")
        if renew_hook(Path(self._outside.settings.hook), hook):
            self._outside.audit.append("hook-renewal", "done", "host", "agent", hook=hook)
        found = (*self._platform.recheck(release), *self._platform.recheck_named(release))
        failures = [finding for finding in found if finding.outcome == "fail"]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise Refused(
                f"{release.channel} {release.number} was not activated",
                cause=failures[0].sentence() + more,
                remedy="install the packages that the release names, then try again",
            )

    def _settle(self, generation: Generation, old: Generation | None) -> None:
        """Measure what was switched to; confirm it if it is trusted and the host's key opens, or go back."""
        try:
            self._measure(generation.platform, old.platform if old else None)
            _require_sound(self._platform.appraise(generation), STILL_RUNNING | HOSTS_OWN)
            self._make_keys(generation.platform)
            self._keys.open_host_key(generation.platform)
            self._keys.require_not_below(generation)
        except VmgateError as error:
            # Only what speaks against the release is remembered against it; a full disk, a mute TPM, and a key that
            # somebody copied back from before the TPM's counter rose do not.
            shut = isinstance(error, SealShut) and error.term != "counter"
            self._update.roll_back(remember=shut or isinstance(error, NotTrusted))
            raise
        self._update.confirm()
        self.follow(generation.platform)

    def _make_keys(self, platform: Release) -> None:
        if not self._keys.ready():
            with self._resealing.recorded("there is none"):
                self._keys.make_host_key(platform, self._resealing.first_floor())
        self._audit_key.make(platform)

    def _measure(self, platform: Release, old: Release | None) -> None:
        """Measure a platform that changed; one that did not was measured before."""
        if platform != old:
            self._platform.change(platform)

    def _told(
        self, generation: Generation | None, *, changed: bool, candidate: Candidate | None = None
    ) -> dict[str, Json]:
        reboot = generation is not None and not self._keys_open(generation)
        return update_report.outcome(generation, self.state(), candidate, changed=changed, reboot=reboot)

    def _keys_open(self, generation: Generation) -> bool:
        """Whether this boot is in a state in which the generation's policies open the host's key."""
        try:
            self._keys.open_host_key(generation.platform)
        except VmgateError:
            return False
        return True

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


def _platform_of(candidate: Candidate) -> Release:
    releases = map(Release.parse, candidate.resolution.releases)
    return next(release for release in releases if release.authority == "platform")


STILL_RUNNING = frozenset({"vm-start"})
"""A VM that still runs from an older release speaks against no release."""

HOSTS_OWN = frozenset({"not-approved", "baseline", "kernel-argument"})
"""What a release asks of the host's administrator, who can give it only once the release is active. It stays active,
and nothing starts until then."""


def _require_sound(verdict: Verdict, besides: frozenset[str]) -> None:
    """Require that nothing speaks against the platform, besides some checks."""
    rest = tuple(finding for finding in verdict.findings if finding.check not in besides)
    replace(verdict, findings=rest).require_trusted("see `vmgate measure show`; a reboot measures all anew")
