# SPDX-License-Identifier: Apache-2.0
"""One update of one host, step by step: fetch, verify, stage, switch, then confirm or roll back.

The journal is written durably around each step and decides what is true. Its state ``switched`` is written *before* the
link ``current`` is switched, so that ``recover`` can always finish what the journal says: a cut anywhere leaves the old
generation or the new one. What was fetched stays in the store, so an abandoned update costs little.

It takes no lock: the agent is the only writer and holds the host's lock. It does not know whether a generation is
healthy; who does calls ``confirm`` or ``roll_back``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from content import durable
from content.errors import ContentError, Missing
from content.fsverity import digest_bytes
from content.store import ContentStore
from documents.host_state import Generation, UpdateJournal
from documents.release import Artifact, Release
from keys.anchor import TrustAnchor
from updater.client.candidate import Candidate, Situation, choose_candidate
from updater.client.download import Progress, fetch_artifacts
from updater.client.floor import Witness
from updater.client.generations import Generations
from updater.client.lookup import Followed
from updater.client.places import Places
from updater.client.repositories import Repositories
from updater.client.site import Site
from updater.client.source import Source
from updater.client.states import NEW, ON_ITS_WAY, active, advance
from updater.errors import Incompatible, NoGeneration, NotConfirmed, RollbackRefused

STATE_ROOM = 1024 * 1024
"""Bytes that are left for journal, floor, metadata and audit when artifacts are fetched."""


class Update:
    """The update of one host. Call ``recover`` once before anything else.

    Args:
        places: where the state lies; the folders are made when needed.
        anchor: where trust starts.
        store: where artifacts go.
        agent: version of this vmgate, ``major.minor.patch``.
        host: name of this host in its fleet, whose assignment it follows; empty for one that follows none.
        witness: see ``updater.client.floor``.
        site: the site's own repository on top of this one, if there is one.
    """

    def __init__(
        self,
        places: Places,
        anchor: TrustAnchor,
        store: ContentStore,
        agent: str,
        host: str = "",
        witness: Witness = lambda: None,
        site: Site | None = None,
    ) -> None:
        self._places = places
        self._store = store
        self._agent = agent
        vendor = Followed(anchor=anchor, tuf=places.tuf, floor=places.floor, witness=witness, host=host)
        self._repositories = Repositories(vendor, site)
        self._generations = Generations(places.generations)
        self._next: Generation | None = None

    @property
    def journal(self) -> UpdateJournal:
        """Where the update stands.

        Raises:
            DocumentError: malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        try:
            return UpdateJournal.parse(durable.read_file(self._places.journal, UpdateJournal.LIMIT))
        except Missing:
            return NEW

    def active(self) -> Generation | None:
        """The active generation, or nothing before the first update.

        Raises:
            StateInconsistent: the journal names one that is not there.
            DocumentError: malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        number = active(self.journal)
        return self._generations.load(number) if number else None

    def recover(self) -> UpdateJournal:
        """Finish or undo what a cut or a failing disk left: afterwards ``current`` is what the journal says.

        Raises:
            StateInconsistent: the journal names a generation that is not there.
            DocumentError: malformed or of a newer vmgate.
            ContentError: it could not be read or written.
        """
        durable.make_directory(self._places.generations)
        if self.journal.state in ON_ITS_WAY:
            self.abandon()
        journal = self.journal
        if journal.generation:
            self._generations.load(journal.generation)
        self._follow()
        if journal.state == "confirmed":
            self._generations.keep({journal.generation, journal.previous})
        for folder in (self._places.journal.parent, self._places.generations, *self._repositories.folders()):
            durable.sweep(folder)
        self._store.sweep()
        return journal

    def check(
        self,
        source: Source | None,
        channels: Sequence[str],
        *,
        now: int,
        place: int | None = None,
        wait: bool = False,
        allow_stale: int = 0,
        site: Source | None = None,
    ) -> Candidate:
        """Look up what is offered. Only the floors' time and root may change.

        Args:
            source: the repository; None to leave it alone, as with a bundle of the site's: what it brought stays.
            channels: that this host follows of it.
            now: seconds since 1970 UTC.
            place: this host's place in the waves; None where they do not matter, as with a bundle.
            wait: hold back what the waves have not brought to that place yet.
            allow_stale: see ``updater.client.metadata.refresh``.
            site: the site's repository; None to leave it alone.

        Raises:
            UpdaterError: see ``updater.client.metadata.refresh`` and ``updater.client.resolve.resolve``.
            SiteOverreached: the site offers what is the vendor's.
            DocumentError: a release or the state is malformed.
            ContentError: state could not be read or written.
        """
        active = self.active()
        offer = self._repositories.offer(source, channels, active, site=site, now=now, allow_stale=allow_stale)
        situation = Situation(
            active=active,
            channels=channels,
            refused=self.journal.refused,
            agent=self._agent,
            place=place,
            wait=wait,
        )
        return choose_candidate(offer, situation)

    def fetch(
        self,
        candidate: Candidate,
        source: Source | None,
        progress: Progress | None = None,
        site: Source | None = None,
    ) -> None:
        """Fetch all artifacts of a new candidate, each from the repository whose release brings it.

        An update that could not even be abandoned is abandoned first. A repository of which nothing is new may be None.

        Raises:
            DigestMismatch: an artifact is not what was signed.
            UpdaterError: the source failed.
            StorageFull: no room for all that is missing; nothing was fetched.
            ContentError: it could not be written.
            NotConfirmed: the last update is not confirmed yet.
            ValueError: the candidate is not new.
        """
        if self.journal.state in ON_ITS_WAY:
            self.abandon()
        journal = self.journal
        if journal.state == "switched":
            raise NotConfirmed(
                "the update was not applied",
                cause=f"generation {journal.generation} is not confirmed yet",
                remedy="wait for its health check, or run `vmgate update rollback`",
            )
        if not candidate.resolution.new:
            raise ValueError("there is nothing new to fetch")
        number = max(journal.generation, journal.previous, *self._generations.numbers(), 0) + 1
        following = advance(journal, "fetch", generation=number)
        generation = Generation(number=number, releases=candidate.resolution.releases, stale=candidate.stale)
        artifacts = [artifact for release in generation.parsed() for artifact in release.artifacts]
        wanted = {artifact.fsverity: artifact.length for artifact in artifacts}
        self._store.require_room(wanted, len(generation.encode()) + STATE_ROOM)
        self.fetch_releases(generation.parsed(), source, site, progress)
        self._next = generation
        self._write(following)

    def fetch_releases(
        self,
        releases: Sequence[Release],
        source: Source | None,
        site: Source | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fetch what the store lacks of some releases, or has damaged. Raises as ``fetch`` does."""
        held = self._held()
        for origin, part in self._repositories.divided(releases, source, site):
            artifacts = [artifact for release in part for artifact in release.artifacts]
            fetch_artifacts(origin, self._store, artifacts, progress, held)

    def verify(self) -> None:
        """Require every artifact as it lies in the store; then the kernel may check it, where the file system can.

        What was hashed while it was fetched, and nobody touched since, is not hashed again.

        Raises:
            DigestMismatch: one is damaged.
            NotInStore: one is missing.
            ContentError: it cannot be read.
            ValueError: nothing was fetched.
        """
        following = advance(self.journal, "verify")
        for release in self._coming().parsed():
            for artifact in release.artifacts:
                self._store.verify_once(artifact.fsverity, artifact.length)
                self._store.seal(artifact.fsverity)
        self._write(following)

    def stage(self) -> None:
        """Write the new generation beside the old one.

        Raises:
            ContentError: no room, or it could not be written.
            ValueError: it was not verified.
        """
        following = advance(self.journal, "stage")
        self._generations.stage(self._coming())
        self._write(following)

    def switch(self) -> None:
        """Make the new generation the active one. It is not confirmed yet.

        Raises:
            ContentError: it could not be written, and the update is abandoned; see ``_or_back``.
            ValueError: it was not staged.
        """
        following = advance(self.journal, "switch")
        with self._or_back():
            self._write(following)
            self._generations.switch(following.generation)
        self._next = None

    def confirm(self) -> None:
        """The new generation is healthy: raise the floor to it and remove what is no longer needed.

        Raises:
            ContentError: it could not be written, and is not confirmed; or it is, and something older was not removed.
            ValueError: nothing was switched.
        """
        following = advance(self.journal, "confirm")
        releases = self._generations.load(following.generation).parsed()
        self._repositories.raise_floors(releases)
        with self._or_back():
            self._write(following)
        self._generations.keep({following.generation, following.previous})

    def abandon(self) -> None:
        """Forget an update that was not switched yet.

        Raises:
            ContentError: it could not be written.
            ValueError: no update is on its way.
        """
        journal = self.journal
        older = [n for n in self._generations.numbers() if n < journal.previous]
        following = advance(journal, "abandon", previous=max(older, default=0))
        # Before the journal forgets it: a generation that was never active must not look like an earlier one.
        durable.remove_tree(self._generations.root / str(journal.generation))
        self._write(following)
        self._next = None

    def give_up(self) -> None:
        """Abandon an update that failed, if one is on its way. If the disk refuses that, the next ``fetch`` does it."""
        if self.journal.state in ON_ITS_WAY:
            with suppress(ContentError):
                self.abandon()

    def collect(self, besides: Collection[str] = ()) -> None:
        """Remove from the store what no generation on the disk needs any more.

        Args:
            besides: digests of what stays all the same, because it is in use.

        Raises:
            ContentError: it failed; what was removed stays removed.
        """
        generations = [self._generations.load(number) for number in self._generations.numbers()]
        releases = [release for generation in generations for release in generation.parsed()]
        self._store.gc({artifact.fsverity for release in releases for artifact in release.artifacts} | set(besides))

    def roll_back(self, *, remember: bool = True) -> Generation | None:
        """Go back to the previous generation.

        Args:
            remember: the releases left are bad and not to be offered again on their own; not so where something else
                than the releases went wrong.

        Returns:
            The generation that is active now; nothing after the first update was rolled back unconfirmed.

        Raises:
            NoGeneration: there is none to go back to.
            RollbackRefused: it is of an older security epoch, and the active one was confirmed.
            ContentError: it could not be written, and the active generation stays; see ``_or_back``.
            ValueError: an update is on its way.
        """
        journal = self.journal
        pending = journal.state == "switched"
        if journal.generation == 0 or (journal.previous == 0 and not pending):
            raise NoGeneration(
                "nothing was rolled back", cause="there is no previous generation", remedy="wait for a new release"
            )
        left = self._generations.load(journal.generation)
        back = self._generations.load(journal.previous) if journal.previous else None
        if back is not None and not pending and back.platform.epoch < left.platform.epoch:
            raise RollbackRefused(
                "nothing was rolled back",
                cause=f"security epoch {left.platform.epoch} was confirmed and the previous generation has "
                f"{back.platform.epoch}",
                remedy="wait for a corrected release",
            )
        kept = back.releases if back is not None else ()
        failed = tuple(digest_bytes(release) for release in left.releases if remember and release not in kept)
        following = advance(journal, "roll_back", refused=failed)
        with self._or_back():
            self._write(following)
            self._generations.switch(following.generation)
        return back

    def apply(
        self, source: Source, channels: Sequence[str], *, now: int, progress: Progress | None = None
    ) -> Generation | None:
        """All steps up to ``switch``. If one fails, the old generation stays and the update is forgotten.

        Returns:
            The generation that is active and unconfirmed now; nothing if there was nothing new.

        Raises:
            Incompatible: there is something new and none of it fits.
            VmgateError: see the steps.
        """
        candidate = self.check(source, channels, now=now)
        if not candidate.resolution.new:
            if candidate.resolution.held_back:
                raise Incompatible(
                    "the update was not applied",
                    cause="; ".join(candidate.resolution.held_back)[:500],
                    remedy="wait for a release that fits, or ask for one",
                )
            return None
        try:
            self.fetch(candidate, source, progress)
            self.verify()
            self.stage()
            self.switch()
        finally:
            self.give_up()
        return self.active()

    def _held(self) -> list[Artifact]:
        """What the generations on the disk are made of, the newest first."""
        generations = [self._generations.load(number) for number in reversed(self._generations.numbers())]
        return [artifact for generation in generations for r in generation.parsed() for artifact in r.artifacts]

    def _coming(self) -> Generation:
        if self._next is None:
            raise ValueError("an update that another process began must be recovered first")
        return self._next

    @contextmanager
    def _or_back(self) -> Iterator[None]:
        """Go back to before a block that the disk refused. A disk that refuses that as well needs ``recover``."""
        before = self.journal
        try:
            yield
        except ContentError:
            with suppress(ContentError):
                self._write(before)
                self._follow()
                self.give_up()
            raise

    def _follow(self) -> None:
        """Let ``current`` be what the journal says."""
        number = active(self.journal)
        if self._generations.current() != number:
            self._generations.switch(number)

    def _write(self, journal: UpdateJournal) -> None:
        durable.write_file(self._places.journal, journal.encode())
