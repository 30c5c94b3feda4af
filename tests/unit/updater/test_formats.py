# SPDX-License-Identifier: Apache-2.0
"""Where things lie."""

from __future__ import annotations

import pytest

from updater.formats import blob_name, metadata_name, release_target, target_name


def test_names() -> None:
    assert metadata_name("timestamp", None) == "metadata/timestamp.json"
    assert metadata_name("releases-platform", 3) == "metadata/3.releases-platform.json"
    assert metadata_name("../x", 1) == "metadata/1...%2Fx.json"
    assert release_target("platform", None) == "releases/platform/current.json"
    assert release_target("platform", 7) == "releases/platform/7.json"
    assert target_name("releases/platform/7.json", "ab") == "targets/releases/platform/ab.7.json"
    assert target_name("7.json", "ab") == "targets/ab.7.json"
    assert blob_name("ab" * 32) == "blobs/ab/" + "ab" * 32


@pytest.mark.parametrize(("channel", "number"), [("../x", 1), ("platform", 0), ("platform", -1), ("", None)])
def test_what_is_no_release_has_no_target(channel: str, number: int | None) -> None:
    with pytest.raises(ValueError, match="is not"):
        release_target(channel, number)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_digest_has_no_place(digest: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        blob_name(digest)
