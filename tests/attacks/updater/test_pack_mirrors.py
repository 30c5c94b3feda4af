# SPDX-License-Identifier: Apache-2.0
"""Mirrors that give wrong parts of packs: what they gave is dropped, others give the rest, and they are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from content.fsverity import digest_bytes
from lab import images
from lab.hostile import PATIENT, HostileServer, Scene, body, served
from updater.client.http import HttpSource
from updater.client.mirrors import MirroredSource
from updater.errors import UpdaterError
from updater.formats import blob_name, delta_part, pack_name
from updater.pack import FRAMES, HEAD, RECORD, SPANS
from updater.repository.serve import _Handler

FIRST = images.first()
NEW = images.edited(FIRST)
OTHER = images.first(seed=9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A scene with two mirrors, and what the host will take from where."""

    stage: Scene
    bad: HostileServer
    good: HostileServer

    def source(self) -> MirroredSource:
        primary, *mirrors = (HttpSource(s.url, PATIENT) for s in (self.stage.server, self.bad, self.good))
        return MirroredSource(primary, mirrors)

    def publish(self, number: int, image: bytes) -> str:
        self.stage.publisher.publish_workload(number, image)
        for server in (self.stage.server, self.bad, self.good):
            server.requests.clear()
        return digest_bytes(image)


@pytest.fixture
def mirrored(stage: Scene) -> Iterator[Mirrored]:
    repository = stage.publisher.repository
    with served(repository) as bad, served(repository) as good:
        yield Mirrored(stage=stage, bad=bad, good=good)


def _scrambled(handler: _Handler) -> None:
    """The range that was asked for, with other bytes in it."""
    first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
    length = int(last) - int(first) + 1
    body(b"\x5a" * length, 206, Content_Range=f"bytes {first}-{last}/{10**9}")(handler)


@pytest.mark.parametrize("part", [HEAD, SPANS, FRAMES])
def test_a_wrong_part_of_a_pack(mirrored: Mirrored, part: str) -> None:
    digest = mirrored.publish(2, OTHER)
    name = pack_name(digest, part)
    mirrored.bad.rules[name] = body(b"no head") if part == HEAD else _scrambled
    assert mirrored.stage.host.apply(mirrored.source(), mirrored.stage.now) is not None
    assert mirrored.stage.host.store.path(digest).read_bytes() == OTHER
    assert name in [asked for asked, _ in mirrored.bad.requests]
    assert mirrored.good.requests
    assert not [n for n, _ in mirrored.stage.server.requests if n.startswith(("packs/", "blobs/"))]
    # What was under way when it was found out may still have ended there; nothing was begun afterwards.
    later = [n for n, _ in mirrored.bad.requests].index(name)
    assert len(mirrored.bad.requests) - later <= 8


def test_records_of_one_and_frames_of_another_put_the_blame_on_nobody(mirrored: Mirrored) -> None:
    """Else a mirror that gives records out of order, and no frames, would cost all others their standing."""
    digest = mirrored.publish(2, OTHER)
    records = (mirrored.stage.publisher.repository / pack_name(digest, SPANS)).read_bytes()
    swapped = records[RECORD : 2 * RECORD] + records[:RECORD] + records[2 * RECORD :]

    def out_of_order(handler: _Handler) -> None:
        first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
        part = swapped[int(first) : int(last) + 1]
        body(part, 206, Content_Range=f"bytes {first}-{last}/{len(swapped)}")(handler)

    mirrored.bad.rules |= {pack_name(digest, SPANS): out_of_order, pack_name(digest, FRAMES): body(b"", 404)}
    assert mirrored.stage.host.apply(mirrored.source(), mirrored.stage.now) is not None
    assert mirrored.stage.host.store.path(digest).read_bytes() == OTHER
    assert (blob_name(digest), None) not in mirrored.stage.server.requests


def test_records_that_lead_beside_the_frames_of_another_put_the_blame_on_nobody(mirrored: Mirrored) -> None:
    digest = mirrored.publish(2, OTHER)
    records = bytearray((mirrored.stage.publisher.repository / pack_name(digest, SPANS)).read_bytes())
    for start in range(0, len(records), RECORD):
        records[start] ^= 1

    def beside(handler: _Handler) -> None:
        first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
        part = bytes(records[int(first) : int(last) + 1])
        body(part, 206, Content_Range=f"bytes {first}-{last}/{len(records)}")(handler)

    mirrored.bad.rules |= {pack_name(digest, SPANS): beside, pack_name(digest, FRAMES): body(b"", 404)}
    mirrored.bad.rules[blob_name(digest)] = body(b"", 404)
    primary, bad = (HttpSource(server.url, PATIENT) for server in (mirrored.stage.server, mirrored.bad))
    assert mirrored.stage.host.apply(MirroredSource(primary, [bad]), mirrored.stage.now) is not None
    assert mirrored.stage.host.store.path(digest).read_bytes() == OTHER


@pytest.mark.parametrize("part", [HEAD, SPANS, FRAMES])
def test_a_mirror_that_breaks_off_each_time(mirrored: Mirrored, part: str) -> None:
    """Its first bytes are there, so that it has answered, and no more come."""
    digest = mirrored.publish(2, OTHER)

    def breaks_off(handler: _Handler) -> None:
        first, _, last = handler.headers.get("Range", f"bytes=0-{10**4}").removeprefix("bytes=").partition("-")
        ranged = {"Content_Range": f"bytes {first}-{last}/{10**9}"} if "Range" in handler.headers else {}
        body(b"vmgate", 206 if ranged else 200, length=int(last) - int(first) + 1, **ranged)(handler)

    mirrored.bad.rules[pack_name(digest, part)] = breaks_off
    assert mirrored.stage.host.apply(mirrored.source(), mirrored.stage.now) is not None
    assert mirrored.stage.host.store.path(digest).read_bytes() == OTHER


def test_as_many_wrong_mirrors_as_settings_may_name_do_not_keep_the_repository_from_a_host(stage: Scene) -> None:
    stage.publisher.publish_workload(2, OTHER)
    digest = digest_bytes(OTHER)
    with ExitStack() as stack:
        mirrors = [stack.enter_context(served(stage.publisher.repository)) for _ in range(8)]
        for mirror in mirrors:
            mirror.rules[pack_name(digest, SPANS)] = _scrambled
        source = MirroredSource(stage.source, [HttpSource(mirror.url, PATIENT) for mirror in mirrors])
        assert stage.host.apply(source, stage.now) is not None
    assert stage.host.store.path(digest).read_bytes() == OTHER


def test_a_wrong_delta(mirrored: Mirrored) -> None:
    mirrored.publish(2, FIRST)
    assert mirrored.stage.host.apply(mirrored.source(), mirrored.stage.now) is not None
    digest = mirrored.publish(3, NEW)
    name = pack_name(digest, delta_part(digest_bytes(FIRST)))
    mirrored.bad.rules[name] = _scrambled
    assert mirrored.stage.host.apply(mirrored.source(), mirrored.stage.now) is not None
    assert mirrored.stage.host.store.path(digest).read_bytes() == NEW
    assert [n for n, _ in mirrored.bad.requests][-1] == name
    assert mirrored.good.requests


def test_wrong_parts_from_everybody_are_refused(mirrored: Mirrored) -> None:
    digest = mirrored.publish(2, OTHER)
    for server in (mirrored.stage.server, mirrored.bad, mirrored.good):
        server.rules |= dict.fromkeys((pack_name(digest, SPANS), pack_name(digest, FRAMES)), _scrambled)
    mirrored.stage.host.refuses(UpdaterError, mirrored.source(), mirrored.stage.now)
