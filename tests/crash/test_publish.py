# SPDX-License-Identifier: Apache-2.0
"""A publication that is cut anywhere leaves the old or the new state published, whole, and can be repeated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from documents.host_state import Floor
from keys.anchor import TrustAnchor
from lab.crash import crash_points
from lab.publishing import NOW, PASSPHRASE, Publisher, platform, workload
from publisher.custody import Rotation, rotate_role
from publisher.revoke import Revocation, plan_revocation
from updater.client.metadata import refresh
from updater.client.source import Reply
from updater.errors import NotOffered
from updater.repository.ceremony import merge, propose_release
from updater.repository.chain import load_chain
from updater.repository.errors import ReleaseRefused, RequestStale
from updater.repository.release import publish
from updater.repository.verify import verify_repository


@pytest.mark.timeout(600)
def test_a_cut_during_a_publication_leaves_old_or_new(tmp_path: Path) -> None:
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher")
    publisher.publish_platform(1)
    artifact, path = publisher.artifact("vmm/host-files", "host-files", b"of release 2")
    release = platform(2, artifact).encode()

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.repository, root / "repository")

    def operation(root: Path) -> None:
        publish(root / "repository", publisher.keys, PASSPHRASE, release, [path], now=NOW)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    for point in crash_points(scratch, prepare, operation):
        number = dict(verify_repository(point.root / "repository", now=NOW).channels)["releases-platform"]
        assert number == 2 if point.finished else number in (1, 2), point.label
        seen.add(number)
        if number == 2:
            with pytest.raises(ReleaseRefused):
                operation(point.root)
        else:
            operation(point.root)
        found = verify_repository(point.root / "repository", now=NOW)
        assert (found.releases, dict(found.channels)["releases-platform"]) == (2, 2), point.label
    assert seen == {1, 2}


class Static:
    """A repository's files as a web server would serve them."""

    offline = False

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    @contextmanager
    def open(self, name: str, start: int = 0) -> Iterator[Reply]:
        path = self._repository / name
        if not path.exists():
            raise NotOffered("nothing was read", cause=f"{name} is not there", remedy="ask the publisher")
        yield Reply(start=start, untrusted_chunks=iter([path.read_bytes()[start:]]))


def _request(publisher: Publisher, kind: str, path: Path) -> bytes:
    """A signed request for one kind of change."""
    common = (publisher.repository, publisher.keys, PASSPHRASE)
    if kind == "revoke":
        bad, good = (publisher.artifact("image/desktop", "image", b"image of release %d" % n)[0] for n in (2, 1))
        releases = workload(2, bad), workload(1, good)
        planned = plan_revocation(Revocation(channel="desktop", number=2), *releases, releases)
        return propose_release(*common, planned.encode(), (), now=NOW)
    rotate_role(*common, Rotation(role=kind.removeprefix("rotate ")), now=NOW, request=path)
    return path.read_bytes()


def _summary(repository: Path) -> tuple[object, ...]:
    """What a repository says, but for what each refresh changes."""
    chain = load_chain(repository)
    return tuple(held.signed.to_dict() for held in (*chain.roots, chain.targets, *chain.releases.values()))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["rotate timestamp", "rotate targets", "revoke"])
def test_a_cut_during_a_merge_leaves_a_whole_and_a_second_merge_completes_it(tmp_path: Path, kind: str) -> None:
    """Rotations, renewals and revocations are all published as a merged request is; no reader ever sees a half."""
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher")
    publisher.publish_platform(1)
    for number in (1, 2):
        publisher.publish_workload(number)
    request = _request(publisher, kind, tmp_path / "request")
    anchor = TrustAnchor(publisher.anchor)

    def prepare(root: Path) -> None:
        shutil.copytree(publisher.repository, root / "repository")

    def operation(root: Path) -> None:
        merge(root / "repository", publisher.keys, PASSPHRASE, [request], now=NOW)

    def look_up(repository: Path, state: str) -> None:
        floor = Floor(time=NOW, root=1, releases=())
        refresh(tmp_path / state, anchor, Static(repository), ("platform", "desktop"), now=NOW, floor=floor)

    look_up(publisher.repository, "old")
    for name in ("scratch", "uncut"):
        (tmp_path / name).mkdir()
    prepare(tmp_path / "uncut")
    operation(tmp_path / "uncut")
    complete = _summary(tmp_path / "uncut/repository")
    states = set()
    for point in crash_points(tmp_path / "scratch", prepare, operation):
        repository = point.root / "repository"
        verify_repository(repository, now=NOW)
        state = str(sorted((p.name, p.read_bytes()) for p in repository.glob("metadata/[!.]*.json")))
        if state not in states:
            # A host that knows the old state, and one that knows nothing.
            states.add(state)
            shutil.copytree(tmp_path / "old", tmp_path / f"old-{len(states)}")
            look_up(repository, f"old-{len(states)}")
            look_up(repository, f"new-{len(states)}")
        if _summary(repository) == complete:
            with pytest.raises(RequestStale, match="published already"):
                operation(point.root)
        else:
            assert not point.finished
            operation(point.root)
        verify_repository(repository, now=NOW)
        assert _summary(repository) == complete, point.label
    assert len(states) > 2
