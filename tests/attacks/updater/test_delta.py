# SPDX-License-Identifier: Apache-2.0
"""What an update of a large image asks for, and what somebody between publisher and host can do to its packs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from content.fsverity import SPAN, Measured, digest_bytes
from lab import images
from lab.hostile import CHANNELS, Scene, body
from updater.bundle import BundleReader
from updater.client.bundle_source import BundleSource
from updater.client.download import fetch_artifacts
from updater.client.inspection import verify_bundle
from updater.compression import LEVEL, compressed
from updater.errors import BundleMalformed, NotOffered, PackMalformed, Unreachable, UpdaterError
from updater.formats import blob_name, delta_part, pack_name
from updater.pack import FRAMES, HEAD, RECORD, SPANS, Head, Offer, SpanRecord
from updater.repository.export import export_bundle
from updater.repository.packing import read_head
from updater.repository.serve import _Handler
from updater.repository.verify import verify_repository

FIRST = images.first()
OLD = digest_bytes(FIRST)


class Story:
    """A scene whose host runs the first image; ``publish`` brings out the next one."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.number = 1
        self.new = b""
        self.publish(FIRST)
        self.apply()

    def publish(self, image: bytes) -> None:
        self.number += 1
        self.new = image
        self.stage.publisher.publish_workload(self.number, image)
        self.stage.server.requests.clear()

    def apply(self) -> None:
        generation = self.stage.host.apply(self.stage.source, self.stage.now)
        assert generation is not None
        store = self.stage.host.store
        store.verify(self.digest, len(self.new))
        assert store.path(self.digest).read_bytes() == self.new
        assert not list((store.root / "partial").iterdir())

    def import_bundle(self, path: Path) -> None:
        with BundleReader(path) as reader:
            assert self.stage.host.apply(BundleSource(reader), self.stage.now) is not None
        assert self.stage.host.store.path(self.digest).read_bytes() == self.new

    @property
    def digest(self) -> str:
        return digest_bytes(self.new)

    def part(self, part: str) -> str:
        return pack_name(self.digest, part)

    def asked(self) -> list[str]:
        """Which parts of packs and which blobs were asked for, without their folders."""
        names = [name for name in self.stage.asked() if name.startswith(("packs/", "blobs/"))]
        return [name.rpartition("/")[2] for name in names]

    def without_deltas(self) -> None:
        """The publisher never saw what this host has."""
        self.replace_head(())

    def replace_head(self, offers: tuple[Offer, ...]) -> None:
        repository = self.stage.publisher.repository
        head = read_head(repository, Measured(fsverity=self.digest, length=len(self.new)))
        made = Head(length=head.length, offers=offers, hashes=head.hashes)
        (repository / self.part(HEAD)).write_bytes(made.encode())


@pytest.fixture
def story(stage: Scene) -> Story:
    return Story(stage)


@pytest.mark.parametrize("change", [images.edited, images.moved, images.patched])
def test_from_the_last_release_only_its_delta_is_fetched(story: Story, change: Callable[[bytes], bytes]) -> None:
    story.publish(change(FIRST))
    story.apply()
    # The delta's head, and its one group.
    assert story.asked() == [HEAD, delta_part(OLD), delta_part(OLD)]


def test_from_an_older_release_its_own_delta_is_fetched(story: Story) -> None:
    for step in range(3):
        story.publish(images.edited(story.new, seed=10 + step))
    story.apply()
    assert set(story.asked()) == {HEAD, delta_part(OLD)}


@pytest.mark.parametrize("change", [images.edited, images.moved])
def test_from_an_image_that_the_publisher_never_saw_few_frames_are_fetched(
    story: Story, change: Callable[[bytes], bytes]
) -> None:
    story.publish(change(FIRST))
    story.without_deltas()
    story.apply()
    assert set(story.asked()) == {HEAD, SPANS, FRAMES}
    ranges = [given for name, given in story.stage.server.requests if name.endswith(FRAMES)]
    assert sum(_length(given) for given in ranges) < len(story.new) // 10


def test_without_anything_alike_all_frames_are_fetched(story: Story) -> None:
    story.publish(images.first(seed=9))
    story.apply()
    assert OLD not in str(story.asked())
    assert story.asked()[:2] == [HEAD, SPANS]


def test_a_server_without_ranges_gives_whole_files(story: Story) -> None:
    story.publish(images.edited(FIRST))
    for part in (SPANS, FRAMES, delta_part(OLD)):
        path = story.stage.publisher.repository / story.part(part)
        story.stage.server.rules[story.part(part)] = body(path.read_bytes())
    story.apply()
    assert story.asked()[-1] == story.digest, story.asked()


def test_a_repository_without_packs_gives_whole_files(story: Story) -> None:
    story.publish(images.edited(FIRST))
    for part in (HEAD, SPANS, FRAMES, delta_part(OLD)):
        (story.stage.publisher.repository / story.part(part)).unlink()
    story.apply()
    assert story.asked() == [HEAD, story.digest]


@pytest.mark.parametrize("where", [0, 10, 40, -1])
def test_a_changed_delta_is_of_no_use_and_does_no_harm(story: Story, where: int) -> None:
    story.publish(images.edited(FIRST))
    path = story.stage.publisher.repository / story.part(delta_part(OLD))
    wrong = bytearray(path.read_bytes())
    wrong[where] ^= 0xFF
    path.write_bytes(wrong)
    story.apply()
    assert FRAMES in story.asked()


def test_a_delta_of_another_image_is_of_no_use_and_does_no_harm(story: Story) -> None:
    story.publish(images.moved(FIRST))
    repository = story.stage.publisher.repository
    stolen = (repository / story.part(delta_part(OLD))).read_bytes()
    head = read_head(repository, Measured(fsverity=story.digest, length=len(story.new)))
    story.publish(images.moved(FIRST, seed=30))
    (repository / story.part(delta_part(OLD))).write_bytes(stolen)
    story.replace_head(head.offers)
    story.apply()
    assert FRAMES in story.asked()


def test_a_damaged_image_of_this_host_is_not_taken_over(story: Story) -> None:
    story.publish(images.edited(FIRST))
    path = story.stage.host.store.path(OLD)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(4 * SPAN + 100)
        file.write(b"rotten")
    story.apply()
    assert FRAMES in story.asked()


def test_a_head_that_lies_is_not_believed(story: Story) -> None:
    story.publish(images.edited(FIRST))
    path = story.stage.publisher.repository / story.part(HEAD)
    wrong = bytearray(path.read_bytes())
    wrong[-1] ^= 1
    path.write_bytes(wrong)
    story.apply()
    assert story.asked() == [HEAD, story.digest]


def test_a_head_without_end_is_cut_off(story: Story) -> None:
    story.publish(images.edited(FIRST))

    def endless(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(65536))

    story.stage.server.rules[story.part(HEAD)] = endless
    story.apply()
    assert story.stage.server.hung_up.wait(20)


def test_frames_that_are_not_what_was_signed_are_not_written(story: Story) -> None:
    story.publish(images.edited(FIRST))
    story.without_deltas()
    size = (story.stage.publisher.repository / story.part(FRAMES)).stat().st_size
    story.stage.server.rules[story.part(FRAMES)] = _ranged(images.first(seed=77)[:size])
    blob = blob_name(story.digest)
    story.stage.server.rules[blob] = body(images.first(seed=78))
    story.stage.host.refuses(PackMalformed, story.stage.source, story.stage.now, "not what was signed")
    assert not story.stage.host.store.contains(story.digest, len(story.new))
    # The whole artifact may be right where its pack is not.
    del story.stage.server.rules[blob]
    story.apply()
    assert story.asked()[-1] == story.digest


def test_records_that_point_anywhere_lead_nowhere(story: Story) -> None:
    story.publish(images.edited(FIRST))
    story.without_deltas()
    path = story.stage.publisher.repository / story.part(SPANS)
    story.stage.server.rules[story.part(SPANS)] = _ranged(b"\xff" * path.stat().st_size)
    story.apply()
    assert FRAMES not in story.asked()


def test_frames_beyond_the_end_are_never_opened(story: Story) -> None:
    """The last span is short; a bomb stands where its last frames would be."""
    story.publish(FIRST[:-1] + b"!")
    story.without_deltas()
    repository = story.stage.publisher.repository
    frames = repository / story.part(FRAMES)
    honest = frames.stat().st_size
    bomb = compressed(bytes(256 * 1024 * 1024), LEVEL)
    frames.write_bytes(frames.read_bytes() + bomb)
    spans = repository / story.part(SPANS)
    records = spans.read_bytes()
    last = SpanRecord.parse(records[-RECORD:])
    wrong = replace(
        last, offset=honest, frames=(0,) * (len(last.frames) - 1) + (len(bomb),), weak=bytes(len(last.weak))
    )
    spans.write_bytes(records[:-RECORD] + wrong.encode())
    tracemalloc.start()
    try:
        story.apply()
        assert tracemalloc.get_traced_memory()[1] < 100 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_transfer_that_breaks_off_goes_on_with_what_is_missing(story: Story) -> None:
    """Each span is fetched once, but for those that were on their way."""
    story.publish(images.first(seed=9))
    frames = (story.stage.publisher.repository / story.part(FRAMES)).read_bytes()
    story.stage.server.rules[story.part(FRAMES)] = _ranged(frames, broken=len(frames) * 3 // 4)
    story.stage.host.refuses(Unreachable, story.stage.source, story.stage.now)
    story.stage.server.rules.clear()
    story.stage.server.requests.clear()
    story.apply()
    ranges = [given for name, given in story.stage.server.requests if name.endswith(FRAMES)]
    assert 0 < sum(_length(given) for given in ranges) <= len(frames) // 2


def test_a_bundle_for_anybody_brings_packs(story: Story, tmp_path: Path) -> None:
    story.publish(images.edited(FIRST))
    index = export_bundle(story.stage.publisher.repository, CHANNELS, tmp_path / "bundle")
    names = {entry.name for entry in index.entries}
    assert {story.part(HEAD), story.part(SPANS), story.part(FRAMES)} <= names
    assert blob_name(story.digest) not in names
    assert verify_bundle(tmp_path / "bundle", _anchor(story, tmp_path), CHANNELS, now=story.stage.now).by_delta == ()
    story.import_bundle(tmp_path / "bundle")


def test_a_bundle_for_one_host_brings_what_it_lacks(story: Story, tmp_path: Path) -> None:
    story.publish(images.edited(FIRST))
    bundle, anchor = tmp_path / "bundle", _anchor(story, tmp_path)
    have = {item.fsverity for item in story.stage.host.store.items()}
    index = export_bundle(story.stage.publisher.repository, CHANNELS, bundle, have)
    assert [e.name for e in index.entries if e.name.startswith(("packs/", "blobs/"))] == [
        story.part(delta_part(OLD)),
        story.part(HEAD),
    ]
    assert verify_bundle(bundle, anchor, CHANNELS, have, now=story.stage.now).by_delta == ("image/desktop",)
    # For another host it is not complete, and that is said.
    with pytest.raises(NotOffered):
        verify_bundle(bundle, anchor, CHANNELS, now=story.stage.now)
    story.import_bundle(bundle)


def test_a_delta_in_a_bundle_that_was_changed_is_refused(story: Story, tmp_path: Path) -> None:
    story.publish(images.edited(FIRST))
    bundle = tmp_path / "bundle"
    have = {item.fsverity for item in story.stage.host.store.items()}
    index = export_bundle(story.stage.publisher.repository, CHANNELS, bundle, have)
    entry = next(entry for entry in index.entries if entry.name == story.part(delta_part(OLD)))
    wrong = bytearray(bundle.read_bytes())
    wrong[len(wrong) - index.size + entry.offset + entry.length - 20] ^= 1
    bundle.write_bytes(wrong)
    with BundleReader(bundle) as reader:
        story.stage.host.refuses(BundleMalformed, BundleSource(reader), story.stage.now, "copy it again")
    assert not story.stage.host.store.contains(story.digest, len(story.new))


@pytest.mark.parametrize(
    ("part", "place", "error"),
    [(HEAD, -1, NotOffered), (SPANS, 5, BundleMalformed), (FRAMES, 100_000, BundleMalformed)],
)
def test_a_pack_in_a_bundle_that_was_changed_is_refused(
    story: Story, tmp_path: Path, part: str, place: int, error: type[UpdaterError]
) -> None:
    """Another copy helps and no network, and so says the line. The record leads far beyond the frames' end."""
    story.publish(images.first(seed=9))
    bundle = tmp_path / "bundle"
    index = export_bundle(story.stage.publisher.repository, CHANNELS, bundle)
    entry = next(entry for entry in index.entries if entry.name == story.part(part))
    wrong = bytearray(bundle.read_bytes())
    wrong[len(wrong) - index.size + entry.offset + place % entry.length] ^= 1
    bundle.write_bytes(wrong)
    with BundleReader(bundle) as reader:
        story.stage.host.refuses(error, BundleSource(reader), story.stage.now, r"is damaged|copy it again")
    assert not story.stage.host.store.contains(story.digest, len(story.new))


def test_a_damaged_image_is_mended_with_what_is_left_of_it(story: Story) -> None:
    story.publish(images.first(seed=9))
    story.apply()
    host = story.stage.host
    active = host.update.active()
    assert active is not None
    path = host.store.path(story.digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(4 * SPAN + 100)
        file.write(b"rotten")
    story.stage.server.requests.clear()
    artifacts = [artifact for release in active.parsed() for artifact in release.artifacts]
    fetch_artifacts(story.stage.source, host.store, artifacts, held=artifacts)
    assert path.read_bytes() == story.new
    ranges = [given for name, given in story.stage.server.requests if name.endswith(FRAMES)]
    assert sum(_length(given) for given in ranges) < SPAN // 4


def test_a_publisher_does_not_put_a_damaged_pack_into_a_bundle(story: Story, tmp_path: Path) -> None:
    story.publish(images.edited(FIRST))
    path = story.stage.publisher.repository / story.part(FRAMES)
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    with pytest.raises(PackMalformed):
        export_bundle(story.stage.publisher.repository, CHANNELS, tmp_path / "bundle")
    with pytest.raises(PackMalformed):
        verify_repository(story.stage.publisher.repository, now=story.stage.now)
    assert not (tmp_path / "bundle").exists()


def _anchor(story: Story, folder: Path) -> Path:
    path = folder / "root.json"
    path.write_bytes(story.stage.publisher.anchor)
    return path


def test_a_damaged_pack_is_made_again_with_the_next_release(story: Story) -> None:
    story.publish(images.edited(FIRST))
    path = story.stage.publisher.repository / story.part(HEAD)
    good = path.read_bytes()
    path.write_bytes(b"rotten" + good[6:])
    story.publish(story.new)
    assert path.read_bytes() == good
    story.apply()
    assert story.asked() == [HEAD, delta_part(OLD), delta_part(OLD)]


def test_an_image_that_nobody_has_is_told(story: Story) -> None:
    story.publish(images.first(seed=9))
    for name in (story.part(SPANS), story.part(FRAMES), story.part(HEAD), blob_name(story.digest)):
        story.stage.server.rules[name] = body(b"", 404)
    story.stage.host.refuses(NotOffered, story.stage.source, story.stage.now)


def _length(given: str | None) -> int:
    assert given is not None, "a whole file was asked for"
    start, _, end = given.removeprefix("bytes=").partition("-")
    return int(end) - int(start) + 1


def _ranged(data: bytes, broken: int | None = None) -> Callable[[_Handler], None]:
    """Answer ranges of ``data``; a range that goes beyond ``broken`` breaks off there."""

    def rule(handler: _Handler) -> None:
        start, _, end = handler.headers["Range"].removeprefix("bytes=").partition("-")
        part = data[int(start) : int(end) + 1]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        handler.wfile.write(part if broken is None else part[: max(0, broken - int(start))])

    return rule
