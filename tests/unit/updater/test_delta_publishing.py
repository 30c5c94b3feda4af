# SPDX-License-Identifier: Apache-2.0
"""Packs and deltas are made with a release, and more of them when somebody asks; collected when nobody can."""

from __future__ import annotations

from pathlib import Path

import pytest

from content.fsverity import Measured, digest_bytes
from lab import images
from lab.publishing import DAY, Publisher
from updater.formats import pack_name
from updater.repository.collect import collect
from updater.repository.deltas import add_deltas
from updater.repository.errors import NoSuchRelease
from updater.repository.packing import make_pack, read_head
from updater.repository.release import DELTAS
from updater.repository.verify import verify_repository


def _series(count: int) -> list[bytes]:
    made = [images.first()]
    for step in range(count - 1):
        made.append(images.edited(made[-1], seed=20 + step))
    return made


def _head(publisher: Publisher, image: bytes) -> set[str]:
    measured = Measured(fsverity=digest_bytes(image), length=len(image))
    return {offer.base for offer in read_head(publisher.repository, measured).offers}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def test_a_release_has_deltas_from_the_last_five(publisher: Publisher) -> None:
    series = _series(DELTAS + 2)
    for number, image in enumerate(series, 1):
        publisher.publish_workload(number, image)
    assert _head(publisher, series[-1]) == {digest_bytes(image) for image in series[-1 - DELTAS : -1]}
    verify_repository(publisher.repository, now=publisher.now)

    (made,) = add_deltas(publisher.repository, "desktop", [1])
    assert (made.artifact, made.number, made.whole) == ("image/desktop", 1, len(series[-1]))
    assert 0 < made.length < made.whole // 10
    assert digest_bytes(series[0]) in _head(publisher, series[-1])
    # Once more changes nothing.
    assert add_deltas(publisher.repository, "desktop", [1]) == (made,)
    verify_repository(publisher.repository, now=publisher.now)


def test_a_release_that_nobody_lists_gives_no_delta(publisher: Publisher) -> None:
    publisher.publish_workload(1, images.first())
    with pytest.raises(NoSuchRelease, match=r"releases/desktop/7\.json is not listed"):
        add_deltas(publisher.repository, "desktop", [7])


def test_small_and_wholly_new_artifacts_have_no_delta(publisher: Publisher) -> None:
    publisher.publish_workload(1, images.first())
    publisher.publish_workload(2, images.first(seed=50))
    assert add_deltas(publisher.repository, "desktop", [1]) == ()
    publisher.publish_workload(3, b"small")
    assert add_deltas(publisher.repository, "desktop", [1, 2]) == ()
    with pytest.raises(ValueError, match="not worth a pack"):
        make_pack(publisher.repository, Measured(fsverity=digest_bytes(b"small"), length=5))


def test_an_artifact_that_is_collected_takes_its_pack_along(publisher: Publisher) -> None:
    old, new = images.first(), images.first(seed=50)
    publisher.publish_workload(1, old)
    for number in range(2, 20):
        publisher.publish_workload(number, new)
    pack = (publisher.repository / pack_name(digest_bytes(old), "head")).parent
    assert pack.is_dir()
    collected = collect(publisher.repository, now=publisher.now + 400 * DAY * 100)
    assert collected.blobs == 1
    assert not pack.exists()
    verify_repository(publisher.repository, now=publisher.now)
