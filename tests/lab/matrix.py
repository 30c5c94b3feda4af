# SPDX-License-Identifier: Apache-2.0
"""The rows of the crash matrix: what changes a host's or a publisher's files, and what must hold wherever it is cut.

A ``Row`` is an operation with the state before it and a check of the state after a crash or a refused effect. It says
nothing about where the cut comes: ``lab.crash`` and ``lab.faults`` do. Hosts get release 3 here while they run 2 and
could go back to 1; publishers publish release 4.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from content import durable
from content.errors import DigestMismatch
from content.store import ContentStore
from documents.host_state import Generation
from documents.release import Artifact
from keys.anchor import TrustAnchor
from lab.crash import Operation
from lab.publishing import NOW, PASSPHRASE, Publisher, platform, workload
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.floor import load_floor
from updater.client.http import HttpSource
from updater.client.places import Places
from updater.client.source import Source
from updater.client.states import ON_ITS_WAY, active
from updater.client.transaction import Update
from updater.client.trials import Trials
from updater.repository.errors import ReleaseRefused
from updater.repository.export import export_bundle
from updater.repository.refresh import refresh
from updater.repository.release import publish
from updater.repository.serve import RepositoryServer
from updater.repository.verify import verify_repository

CHANNELS = ("platform", "desktop")
TRIAL = "update-trial"
WORKED = ("libvirt", "vm/desktop")
LATER = NOW + 3600
"""When release 3 is looked up, so that the floor's time rises."""

UPDATES = (
    "update over the network",
    "import of a bundle",
    "first import",
    "rollback before confirmation",
    "rollback after confirmation",
    "an update given up",
    "trial of a generation",
)
"""Rows whose state the next start of a host recovers."""

ROWS = (
    *UPDATES,
    "repair of a damaged file",
    "garbage collection",
    "publication",
    "refresh of a repository",
    "writing of a bundle",
)
"""All rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation of the matrix.

    Attributes:
        name: as the documentation names it.
        prepare: makes the state before.
        operation: what is cut; its steps are told apart where it yields their names.
        check: given the folder after a crash and a new start, and whether the operation had finished: asserts that the
            old or the new state is whole and that the operation can be done again, and completes it.
        again: given the folder after an error and whether the disk refused the way back as well: completes it without
            a new start.
    """

    name: str
    prepare: Operation
    operation: Operation
    check: Callable[[Path, bool], None]
    again: Callable[[Path, bool], None]


class Host:
    """A host below a folder, as one process of the agent sees it."""

    def __init__(self, root: Path, anchor: TrustAnchor) -> None:
        self.root = root
        self.anchor = anchor
        self.store = ContentStore(root / "store")
        self.places = Places.below(root)
        self.update = Update(self.places, anchor, self.store, "0.1.0")

    def stands(self) -> bool:
        """Whether ``current`` is what the journal says."""
        return self.update._generations.current() == active(self.update.journal)

    def number(self) -> int:
        """The active release, after all that makes it whole was looked at; 0 for none."""
        journal, generation = self.update.journal, self.update.active()
        link = self.places.generations / "current"
        assert journal.state in ("idle", "switched", "confirmed")
        if generation is None:
            assert not link.is_symlink()
            return 0
        assert link.readlink() == Path(str(generation.number))
        numbers = {release.number for release in generation.parsed()}
        assert len(numbers) == 1, "a mixture"
        self.require_stored(generation)
        if journal.previous:
            self.require_stored(self.update._generations.load(journal.previous))
        return numbers.pop()

    def require_stored(self, generation: Generation) -> None:
        """All that a generation needs is there and intact."""
        for artifact in artifacts(generation):
            self.store.verify(artifact.fsverity, artifact.length)

    def require_floor(self, number: int, time: int) -> None:
        """The floor is not below a release and a time."""
        floor = load_floor(self.places.floor, self.anchor)
        releases = dict(floor.releases)
        assert all(releases.get(channel, 0) >= number for channel in CHANNELS if number), floor
        assert floor.time >= time, floor

    def require_tidy(self) -> None:
        """Nothing unfinished and nothing unknown lies about, and nothing takes room in vain."""
        assert not unfinished(self.root)
        journal, numbers = self.update.journal, self.update._generations.numbers()
        assert set(numbers) == {journal.generation, journal.previous} - {0}
        wanted = {a.fsverity for n in numbers for a in artifacts(self.update._generations.load(n))}
        assert {item.fsverity for item in self.store.items()} == wanted
        assert not list((self.store.root / "partial").iterdir())


class Stage:
    """A publisher's three releases as bundles and on a web server, and the rows that are made of them."""

    def __init__(self, folder: Path, url: Callable[[Path], str]) -> None:
        folder.mkdir()
        self.publisher = Publisher(folder)
        self.anchor = TrustAnchor(self.publisher.anchor)
        self.folder = folder
        self.images: list[bytes] = []
        self.bundles: list[Path] = []
        for number in (1, 2, 3):
            self._publish(number)
            self.bundles.append(folder / f"{number}.bundle")
            export_bundle(self.publisher.repository, CHANNELS, self.bundles[-1])
        self.url = url(self.publisher.repository)

    def _publish(self, number: int) -> None:
        """A platform and a workload; one artifact is in all releases of the platform."""
        shared = self.publisher.artifact("vmm/firmware-code", "firmware-code", b"never changes")
        files = self.publisher.artifact("vmm/host-files", "host-files", b"host files of release %d" % number)
        self.publisher.publish(platform(number, shared[0], files[0]), shared[1], files[1])
        self.images.append((b"image of release %d. " % number) * 500)
        image = self.publisher.artifact("image/desktop", "image", self.images[-1])
        self.publisher.publish(workload(number, image[0]), image[1])

    def host(self, root: Path) -> Host:
        """The host below a folder, after its start."""
        host = Host(root, self.anchor)
        host.update.recover()
        return host

    @contextmanager
    def bundle(self, number: int) -> Iterator[Source]:
        """The bundle of a release, as a source."""
        with BundleReader(self.bundles[number - 1]) as reader:
            yield BundleSource(reader)

    def advance(self, host: Host, number: int) -> None:
        """Import a release and confirm it."""
        with self.bundle(number) as source:
            host.update.apply(source, CHANNELS, now=NOW)
        host.update.confirm()
        host.update.collect()

    def running(self, root: Path) -> None:
        """A host that runs release 2 and can go back to 1."""
        host = self.host(root)
        self.advance(host, 1)
        self.advance(host, 2)

    def fetching(self, root: Path) -> None:
        """The same, and the image of release 3 half fetched."""
        self.running(root)
        image = self._image(3)
        with Host(root, self.anchor).store.receive(image.fsverity, image.length) as incoming:
            incoming.write(self.images[2][: image.length // 2])

    def staged(self, root: Path) -> None:
        """The same, and an update to release 3 that came as far as its last step."""
        self.running(root)
        host = Host(root, self.anchor)
        with self.bundle(3) as source:
            host.update.fetch(host.update.check(source, CHANNELS, now=LATER), source)
        host.update.verify()
        host.update.stage()

    def switched(self, root: Path) -> None:
        """The same, and release 3 active but not confirmed."""
        self.running(root)
        with self.bundle(3) as source:
            Host(root, self.anchor).update.apply(source, CHANNELS, now=LATER)

    def damaged(self, root: Path) -> None:
        """The same as ``running``, with a byte of the active image changed on the disk."""
        self.running(root)
        path = Host(root, self.anchor).store.path(self._image(2).fsverity)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"X")
        path.chmod(0o444)

    def cluttered(self, root: Path) -> None:
        """The same as ``running``, with files in the store that nobody needs any more."""
        self.running(root)
        store = Host(root, self.anchor).store
        for data in (b"old", b"older"):
            store.add_bytes(data)
        image = self._image(3)
        with store.receive(image.fsverity, image.length) as incoming:
            incoming.write(self.images[2][:100])

    def _image(self, number: int) -> Artifact:
        return self.publisher.artifact("image/desktop", "image", self.images[number - 1])[0]

    def row(self, name: str) -> Row:
        """The row of a name."""
        rows = (*self._updates(), *self._ways_back(), *self._store(), *self._publishing())
        return {row.name: row for row in rows}[name]

    def recover(self, root: Path) -> None:
        """What every start of a host does first."""
        self.host(root)

    def _updates(self) -> Iterator[Row]:
        yield Row(
            name="update over the network",
            prepare=self.fetching,
            operation=lambda root: self._steps(Host(root, self.anchor), HttpSource(self.url)),
            check=self._is_2_or_3,
            again=lambda root, lasting: self._finish(self._standing(root, lasting)),
        )
        yield Row(
            name="import of a bundle",
            prepare=self.running,
            operation=lambda root: self._import(Host(root, self.anchor), 3, LATER),
            check=self._is_2_or_3,
            again=lambda root, lasting: self._finish(self._standing(root, lasting)),
        )
        yield Row(
            name="first import",
            prepare=self.recover,
            operation=lambda root: self._import(Host(root, self.anchor), 1, NOW),
            check=self._is_none_or_1,
            again=lambda root, lasting: self._import(self._standing(root, lasting), 1, NOW),
        )

    def _ways_back(self) -> Iterator[Row]:
        yield Row(
            name="rollback before confirmation",
            prepare=self.switched,
            operation=lambda root: Host(root, self.anchor).update.roll_back(),
            check=lambda root, finished: self._went_back(root, finished, 3, 2),
            again=lambda root, lasting: self._roll_back(self._standing(root, lasting), 3),
        )
        yield Row(
            name="rollback after confirmation",
            prepare=self.running,
            operation=lambda root: Host(root, self.anchor).update.roll_back(),
            check=lambda root, finished: self._went_back(root, finished, 2, 1),
            again=lambda root, lasting: self._roll_back(self._standing(root, lasting), 2),
        )
        yield Row(
            name="an update given up",
            prepare=self.staged,
            operation=lambda root: Host(root, self.anchor).update.abandon(),
            check=self._is_2,
            again=lambda root, lasting: self._finish(self._standing(root, lasting)),
        )
        yield Row(
            name="trial of a generation",
            prepare=self.staged,
            operation=self._try,
            check=self._was_tried,
            again=lambda root, lasting: self._finish(self._standing(root, lasting)),
        )

    def _try(self, root: Path) -> None:
        """From the switch to the confirmation, as the agent does it."""
        host, trials = Host(root, self.anchor), Trials(root / TRIAL)
        number = host.update.journal.generation
        trials.announce(number, WORKED)
        host.update.switch()
        trials.begin(number)
        host.update.confirm()
        trials.end()

    def _was_tried(self, root: Path, finished: bool) -> None:
        host, trials = self.host(root), Trials(root / TRIAL)
        journal = host.update.journal
        if journal.state == "switched":
            # Whatever was cut: what it has to show is not forgotten, and not told of another generation.
            trial = trials.of(journal.generation)
            assert trial.worked == WORKED
            assert trial.begun in (0, 1)
            assert trials.of(journal.generation + 1).worked == ()
            host.update.confirm()
        trials.end()
        self._is_2_or_3(root, finished)

    def _store(self) -> Iterator[Row]:
        yield Row(
            name="repair of a damaged file",
            prepare=self.damaged,
            operation=self._repair,
            check=self._is_repaired,
            again=lambda root, _: self._repair(root),
        )
        yield Row(
            name="garbage collection",
            prepare=self.cluttered,
            operation=lambda root: Host(root, self.anchor).update.collect(),
            check=self._is_2,
            again=lambda root, _: Host(root, self.anchor).update.collect(),
        )

    def _publishing(self) -> Iterator[Row]:
        yield Row(
            name="publication",
            prepare=self._copied,
            operation=self._publish_4,
            check=self._is_published,
            again=lambda root, _: self._publish_again(root),
        )
        yield Row(
            name="refresh of a repository",
            prepare=self._copied,
            operation=self._refresh,
            check=self._is_refreshed,
            again=lambda root, _: self._refresh(root),
        )
        yield Row(
            name="writing of a bundle",
            prepare=self._copied,
            operation=self._export,
            check=self._is_exported,
            again=lambda root, _: self._export(root),
        )

    def _steps(self, host: Host, source: Source) -> Iterator[str]:
        """A whole update, as the agent does it."""
        yield "look-up"
        candidate = host.update.check(source, CHANNELS, now=LATER)
        yield "fetch"
        host.update.fetch(candidate, source)
        yield "verify"
        host.update.verify()
        yield "stage"
        host.update.stage()
        yield "switch"
        host.update.switch()
        yield "confirm"
        host.update.confirm()
        yield "collect"
        host.update.collect()

    def _standing(self, root: Path, lasting: bool) -> Host:
        """The host after an error: still whole, unless the disk refused the way back, which needs a new start."""
        host = Host(root, self.anchor)
        if lasting and not host.stands():
            host.update.recover()
        elif host.update.journal.state not in ON_ITS_WAY:
            host.number()
        return host

    def _import(self, host: Host, number: int, now: int) -> None:
        with self.bundle(number) as source:
            if host.update.journal.state != "switched":
                host.update.apply(source, CHANNELS, now=now)

    def _finish(self, host: Host) -> None:
        """Whatever is left of an update to release 3."""
        generation = host.update.active()
        if generation is None or generation.platform.number != 3:
            try:
                self._import(host, 3, LATER)
            except DigestMismatch:
                self._import(host, 3, LATER)  # A damaged unfinished file was thrown away.
        if host.update.journal.state == "switched":
            host.update.confirm()
        host.update.collect()
        assert host.number() == 3
        host.require_floor(3, LATER)

    def _is_2_or_3(self, root: Path, finished: bool) -> None:
        host = self.host(root)
        assert not unfinished(root)
        number = host.number()
        assert number in ((3,) if finished else (2, 3))
        host.require_floor(2, NOW)
        assert host.update.journal.previous == number - 1
        self._finish(host)
        self.host(root).require_tidy()
        host.update.roll_back()
        assert host.number() == 2

    def _is_2(self, root: Path, finished: bool) -> None:
        host = self.host(root)
        assert not unfinished(root)
        assert (host.number(), host.update.journal.previous) == (2, 1)
        host.require_floor(2, NOW)
        host.update.collect()
        host.require_tidy()
        self._finish(host)
        self.host(root).require_tidy()

    def _is_none_or_1(self, root: Path, finished: bool) -> None:
        host = self.host(root)
        assert not unfinished(root)
        number = host.number()
        assert number == 1 if finished else number in (0, 1)
        if number == 0:
            self._import(host, 1, NOW)
        assert host.number() == 1
        host.update.confirm()
        host.update.collect()
        host.require_floor(1, NOW)
        host.require_tidy()

    def _went_back(self, root: Path, finished: bool, before: int, after: int) -> None:
        host = self.host(root)
        assert not unfinished(root)
        number = host.number()
        assert number in ((after,) if finished else (before, after))
        self._roll_back(host, before)
        host.require_floor(2, NOW)
        assert len(host.update.journal.refused) == 2
        # The next release comes all the same, but not the one that was left.
        if before == 2:
            self._finish(host)
            self.host(root).require_tidy()

    def _roll_back(self, host: Host, before: int) -> None:
        """Unless it was done."""
        generation = host.update.active()
        assert generation is not None
        if generation.platform.number == before:
            host.update.roll_back()
        assert host.number() == before - 1

    def _repair(self, root: Path) -> None:
        host = Host(root, self.anchor)
        generation = host.update.active()
        assert generation is not None
        with self.bundle(2) as source:
            fetch_artifacts(source, host.store, artifacts(generation))

    def _is_repaired(self, root: Path, finished: bool) -> None:
        self.recover(root)
        assert not unfinished(root)
        if not finished:
            try:
                self._repair(root)
            except DigestMismatch:
                self._repair(root)
        self._is_2(root, finished)

    def _copied(self, root: Path) -> None:
        shutil.copytree(self.publisher.repository, root / "repository")

    def _publish_4(self, root: Path) -> None:
        files = self.publisher.artifact("vmm/host-files", "host-files", b"host files of release 4")
        release = platform(4, files[0]).encode()
        publish(root / "repository", self.publisher.keys, PASSPHRASE, release, [files[1]], now=LATER)

    def _published(self, root: Path) -> int:
        return dict(verify_repository(root / "repository", now=LATER).channels)["releases-platform"]

    def _publish_again(self, root: Path) -> None:
        try:
            self._publish_4(root)
        except ReleaseRefused:
            assert self._published(root) == 4
        assert self._published(root) == 4

    def _is_published(self, root: Path, finished: bool) -> None:
        assert self._published(root) in ((4,) if finished else (3, 4))
        self._publish_again(root)
        assert verify_repository(root / "repository", now=LATER).releases == 7
        self._is_tidy_repository(root)

    def _refresh(self, root: Path) -> None:
        refresh(root / "repository", self.publisher.keys, PASSPHRASE, now=LATER)

    def _is_refreshed(self, root: Path, finished: bool) -> None:
        assert self._published(root) == 3
        self._refresh(root)
        assert self._published(root) == 3
        self._is_tidy_repository(root)

    def _export(self, root: Path) -> None:
        export_bundle(root / "repository", CHANNELS, root / "bundle")

    def _is_exported(self, root: Path, finished: bool) -> None:
        if finished or (root / "bundle").exists():
            assert (root / "bundle").read_bytes() == self.bundles[2].read_bytes()
        self._export(root)
        assert (root / "bundle").read_bytes() == self.bundles[2].read_bytes()
        assert self._published(root) == 3

    def _is_tidy_repository(self, root: Path) -> None:
        assert not unfinished(root)
        (root / "host").mkdir()
        host = self.host(root / "host")
        export_bundle(root / "repository", CHANNELS, root / "bundle")
        with BundleReader(root / "bundle") as reader:
            host.update.apply(BundleSource(reader), CHANNELS, now=LATER)


def artifacts(generation: Generation) -> tuple[Artifact, ...]:
    """All artifacts of a generation."""
    return tuple(artifact for release in generation.parsed() for artifact in release.artifacts)


def unfinished(root: Path) -> list[Path]:
    """What an operation that was cut left, and a new start should have taken away."""
    return [path for path in root.rglob("*") if path.name.startswith(durable.TEMPORARY)]


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage, its web server in a process of its own: a child that a test kills must not hold its locks."""
    servers: list[multiprocessing.context.ForkProcess] = []

    def serve(repository: Path) -> str:
        server = RepositoryServer(repository)
        process = multiprocessing.get_context("fork").Process(target=server.serve_forever)
        process.start()
        servers.append(process)
        url = server.url
        server.socket.close()
        return url

    try:
        yield Stage(folder, serve)
    finally:
        for process in servers:
            process.terminate()
            process.join()
