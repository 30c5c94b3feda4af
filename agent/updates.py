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
from pathlib import Path

from agent import update_report
from agent.break_glass import BreakGlass
from agent.contact import Contact
from agent.errors import NotReady, PolicyRefused
from agent.outside import Outside
from agent.progress import Transfer
from agent.proving import Proving
from agent.resealing import Resealing
from agent.settling import Settling
from agent.state_forms import StateForms
from agent.transport import Sources, web
from agent.trial import HealthCheck
from agent.wave_place import wave_place
from content.store import ContentStore
from documents.canonical import Json
from documents.errors import Exit, VmgateError
from documents.host_files import ABSENT
from documents.host_state import Floor, Generation
from documents.release import Release
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.candidate import Candidate
from updater.client.generations import Generations
from updater.client.places import Places
from updater.client.source import Source
from updater.client.transaction import Update
from updater.errors import UpdaterError

log = logging.getLogger(__name__)


class Updates:
    """Answers ``vmgate update``.

    Args:
        outside: of this host.
        store: where artifacts go.
        settling: brings what is switched to into effect.
        turn: held while generations switch, see ``agent.launch``.
        contact: told when updates were within reach.
        resealing: keeps the host's key sealed as the releases want it.
        health: what a generation has to show before it is confirmed.
        forms: the form of this host's state, which goes back with a rollback.

    Attributes:
        proving: the trial of what was switched to.
        transfer: how far the running update has come with fetching.
    """

    def __init__(
        self,
        outside: Outside,
        store: ContentStore,
        settling: Settling,
        turn: AbstractContextManager[bool],
        contact: Contact,
        resealing: Resealing,
        health: HealthCheck,
        forms: StateForms,
    ) -> None:
        self._outside = outside
        self._store = store
        self._settling = settling
        self._turn = turn
        self._contact = contact
        self._resealing = resealing
        self._forms = forms
        self._places = Places.below(outside.paths.state)
        self._generations = Generations(self._places.generations)
        self._update = Update(
            self._places, outside.anchor, store, outside.version,
            host=outside.settings.host, witness=self._lowest, site=outside.besides,
        )  # fmt: skip
        self.proving = Proving(outside, self._update, settling, health, turn)
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

    def use_image(self) -> None:
        """Mount the active VMM image where it is not, as after a reboot."""
        self._settling.use_image(self.require_active().platform)

    def pending(self) -> bool:
        """Whether a generation is active but not confirmed."""
        return self.state() == "switched"

    def settled(self) -> bool:
        """Whether what is active is confirmed and sound, so that a VM that stops can start again."""
        generation = self.active()
        return generation is not None and not self.pending() and self._settling.sound(generation)

    def recover(self) -> None:
        """Finish or undo what a power cut left of files."""
        self._update.recover()

    def finish(self) -> None:
        """Measure a generation that was switched to before the agent ended, and put it on trial; or go back."""
        generation = self.active()
        if generation is not None and self.pending():
            previous = self._update.journal.previous
            old = self._generations.load(previous) if previous else None
            if self._settling.fits_boot(generation.platform, old):
                with self._recorded("update-finish", "agent"), self._turn:
                    self.proving.begin(generation, old)

    def follow(self, platform: Release) -> None:
        """After the confirmation, which forbids the way back: let the host's keys follow it. Safe to repeat."""
        if self.state() == "confirmed":
            self._settling.follow(platform)
            # What was judged sound is what runs: this very vmgate is of this release.
            self._forms.note(_build_of(platform))

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
        with (
            self.proving.changing,
            self._recorded("update-unattended", actor, source=self._outside.settings.repository),
        ):
            return self._install(self._web(), candidate)

    def apply(self, actor: str) -> dict[str, Json]:
        """Update from the repository."""
        with self.proving.changing, self._recorded("update-apply", actor, source=self._outside.settings.repository):
            return self._apply(self._web())

    def import_bundle(
        self, path: Path, actor: str, glass: BreakGlass | None = None, *, sites: bool = False
    ) -> dict[str, Json]:
        """Update from a bundle; with ``glass`` also from one that is beyond its days.

        Args:
            path: of the bundle.
            actor: for the record.
            glass: what somebody answers for.
            sites: it is of the site's repository.

        Raises:
            NotReady: this host follows no site.
            VmgateError: see ``Update``.
        """
        if sites and self._outside.besides is None:
            raise NotReady(
                "nothing was imported", cause="this host follows no site", remedy="name it in vmgate.toml, table [site]"
            )
        event, details = ("update-break-glass", glass.details()) if glass else ("update-import", {})
        recorded = self._recorded(event, actor, source=str(path), **details)
        with self.proving.changing, recorded, BundleReader(path) as reader:
            source = BundleSource(reader)
            sources = Sources(publisher=None, site=source) if sites else Sources(publisher=source)
            return self._apply(sources, allow_stale=glass.days if glass else 0)

    def roll_back(self, actor: str) -> dict[str, Json]:
        """Go back to the generation before the active one, which ends its trial."""
        with self.proving.changing, self._recorded("update-rollback", actor):
            left = self.require_active()
            previous = self._update.journal.previous
            if previous:
                back = self._generations.load(previous).platform
                self._settling.require_components(back)
                # A pending one has not had its key sealed anew: what was sealed for the earlier one still is.
                if not self.pending() and not self._settling.fits_boot(back, left):
                    self._resealing.try_to_seal_ahead(back, left.platform)
                self._forms.go_back(_build_of(back))
            with self._turn:
                generation = self._update.roll_back()
                self.proving.forget()
                if generation is not None and self._settling.fits_boot(generation.platform, None):
                    self._settling.measure(generation.platform, left.platform)
            return self._told(generation, changed=True)

    def history(self) -> dict[str, Json]:
        """The generations that are on the disk."""
        generations = map(self._generations.load, self._generations.numbers())
        return update_report.history(generations, self._update.journal)

    @property
    def _channels(self) -> tuple[str, ...]:
        return self._outside.settings.channels

    def _web(self) -> Sources:
        return web(self._outside.settings)

    def _apply(self, sources: Sources, *, allow_stale: int = 0) -> dict[str, Json]:
        if self.pending():
            raise NotReady(
                "nothing was applied",
                cause="an update is not confirmed yet",
                remedy="reboot, or `vmgate update rollback`",
            )
        candidate = self._look_up(sources, wait=False, allow_stale=allow_stale)
        if not candidate.resolution.new:
            self.heard(candidate)
            old = self.active()
            self._repair(sources, old)
            if old is not None:
                with self._turn:
                    self._settling.use_image(old.platform)
                self._collect()
            self._require_nothing_held_back(candidate)
            return self._told(old, changed=False)
        return self._install(sources, candidate)

    def _look_up(self, sources: Sources, *, wait: bool, allow_stale: int = 0) -> Candidate:
        """Look up what is offered; ``wait`` holds back what is not due here yet. Waves have no meaning for a bundle."""
        place = None if sources.offline else wave_place(self._outside.paths.wave_place)
        now = self._outside.clock()

        def look(site: Source | None) -> Candidate:
            return self._update.check(
                sources.publisher, self._channels, now=now, place=place, wait=wait, allow_stale=allow_stale, site=site
            )

        try:
            candidate = look(sources.site)
        except UpdaterError as error:
            if sources.site is None or sources.publisher is None:
                raise
            candidate = look(None)
            if not candidate.resolution.new:
                raise
            # Nothing that a site does or leaves undone holds back what the publisher has.
            candidate = candidate.besides_held_back(f"what the site has: {error.cause}")
        if candidate.recovered:
            self._outside.audit.append("floor-time", "done", "host", "agent", sank_to=str(now))
        return candidate

    def _install(self, sources: Sources, candidate: Candidate) -> dict[str, Json]:
        old = self.active()
        try:
            with self.transfer.running() as tell:
                self._update.fetch(candidate, sources.publisher, tell, sources.site)
            self.heard(candidate)
            self._update.verify()
            self._update.stage()
            coming = _platform_of(candidate)
            self._settling.require_components(coming)
            if old is not None and not self._settling.fits_boot(coming, old):
                self._resealing.seal_ahead(coming, old.platform)
        except VmgateError:
            self._update.give_up()
            raise
        self.proving.announce()
        with self._turn:
            self._update.switch()
            generation = self.require_active()
            if self._settling.fits_boot(generation.platform, old):
                self.proving.begin(generation, old)
        self.proving.wait()
        self._collect()
        return self._told(generation, changed=True, candidate=candidate)

    def _collect(self) -> None:
        """Remove what no generation on the disk needs; the image of a VMM that still runs stays, whatever its age."""
        generations = [self._generations.load(number) for number in self._generations.numbers()]
        self._update.collect(self._settling.collect(generations))

    def _require_nothing_held_back(self, candidate: Candidate) -> None:
        if candidate.resolution.held_back:
            raise PolicyRefused(
                "the update was not applied",
                cause="; ".join(candidate.resolution.held_back)[:500],
                remedy="wait for a release that fits, or ask for one",
            )

    def _repair(self, sources: Sources, generation: Generation | None) -> None:
        """Fetch again what is missing or damaged in the store, although nothing is new."""
        releases = generation.parsed() if generation else ()
        artifacts = [artifact for release in releases for artifact in release.artifacts]
        self._store.require_room({artifact.fsverity: artifact.length for artifact in artifacts})
        with self.transfer.running() as tell:
            # Most of a damaged one is good.
            self._update.fetch_releases(releases, sources.publisher, sources.site, tell)

    def _told(
        self, generation: Generation | None, *, changed: bool, candidate: Candidate | None = None
    ) -> dict[str, Json]:
        reboot = generation is not None and not self._settling.opens(generation)
        return update_report.outcome(generation, self.state(), candidate, changed=changed, reboot=reboot)

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


def _build_of(platform: Release) -> str:
    """The digest of the vmgate that a platform release names."""
    return next((value.fsverity for value in platform.reference if value.component == "vmgate/build"), ABSENT)
