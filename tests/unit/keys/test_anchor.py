# SPDX-License-Identifier: Apache-2.0
"""The trust anchor vouches for itself or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.fsverity import digest_bytes
from documents.errors import Exit
from keys.anchor import LIMIT, TrustAnchor
from keys.errors import AnchorRefused
from lab.publishing import Publisher


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


def test_a_root_that_signed_itself_is_an_anchor(publisher: Publisher) -> None:
    anchor = TrustAnchor(publisher.anchor)
    assert anchor.root == publisher.anchor
    assert anchor.identity == digest_bytes(publisher.anchor)
    assert anchor.version == 1


def test_an_anchor_below_its_threshold_is_refused(publisher: Publisher) -> None:
    root = json.loads(publisher.anchor)
    root["signatures"] = root["signatures"][:1]
    with pytest.raises(AnchorRefused, match="1/2 keys") as caught:
        TrustAnchor(json.dumps(root).encode())
    assert caught.value.exit == Exit.REFUSED


def test_one_key_does_not_count_twice(publisher: Publisher) -> None:
    root = json.loads(publisher.anchor)
    first = root["signatures"][0]
    root["signatures"] = [first, dict(first)]
    with pytest.raises(AnchorRefused):
        TrustAnchor(json.dumps(root).encode())


def test_a_changed_anchor_is_refused(publisher: Publisher) -> None:
    root = json.loads(publisher.anchor)
    root["signed"]["version"] = 2
    with pytest.raises(AnchorRefused):
        TrustAnchor(json.dumps(root).encode())


def test_metadata_of_another_role_is_refused(publisher: Publisher) -> None:
    for name in ("timestamp.json", "1.targets.json", "1.snapshot.json"):
        with pytest.raises(AnchorRefused):
            TrustAnchor((publisher.repository / "metadata" / name).read_bytes())


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"<!DOCTYPE html>", b"[" * 100_000, b"\xff", b" " * (LIMIT + 1)])
def test_what_is_no_root_is_refused(data: bytes) -> None:
    with pytest.raises(AnchorRefused):
        TrustAnchor(data)


@given(st.data())
def test_a_flipped_byte_is_refused_or_means_the_same(publisher: Publisher, data: st.DataObject) -> None:
    """JSON has bytes that mean nothing, such as unknown members outside of what is signed."""
    root = publisher.anchor
    position = data.draw(st.integers(0, len(root) - 1))
    changed = root[:position] + bytes([root[position] ^ data.draw(st.integers(1, 255))]) + root[position + 1 :]
    try:
        anchor = TrustAnchor(changed)
    except AnchorRefused:
        return
    assert anchor.identity != TrustAnchor(root).identity
    assert json.loads(changed)["signed"] == json.loads(root)["signed"]


def test_an_expired_anchor_is_still_an_anchor(tmp_path: Path) -> None:
    """It is only where the chain begins; the client refuses an expired end of the chain."""
    old = Publisher(tmp_path, now=1_000_000_000)
    assert TrustAnchor(old.anchor).version == 1
