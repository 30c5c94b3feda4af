# SPDX-License-Identifier: Apache-2.0
"""The banner is kept as it was given, whatever stands in it, within its bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import banner
from agent.administration import Administration
from agent.audit import AuditTrail, records
from agent.errors import BannerWrong
from agent.paths import HostPaths
from lab.callers import BOOT, NOW

WARNING = "TEST TEST Warning Message TEST TEST"


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(tmp_path)


def administration(paths: HostPaths) -> Administration:
    return Administration(paths, AuditTrail(paths.audit, lambda: NOW, BOOT))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("banner") / "banner"
    banner.write(path, text)
    assert banner.read(path) == text


def test_it_is_recorded_before_it_is_shown(paths: HostPaths) -> None:
    administration(paths).set_banner(WARNING, "test")
    assert banner.read(paths.banner) == WARNING
    assert paths.banner.stat().st_mode & 0o777 == 0o644
    told = [(record.event, record.outcome, dict(record.details)["characters"]) for record in records(paths.audit)]
    assert told == [("banner", "started", "35"), ("banner", "done", "35")]


def test_an_empty_text_takes_it_away(paths: HostPaths) -> None:
    administration(paths).set_banner(WARNING, "test")
    administration(paths).set_banner("", "test")
    assert banner.read(paths.banner) == ""
    assert not paths.banner.exists()


@pytest.mark.parametrize("text", ["x" * (banner.MAX_CHARACTERS + 1), "\ud800"], ids=["too long", "not UTF-8"])
def test_what_is_no_banner_leaves_the_old_one(paths: HostPaths, text: str) -> None:
    administration(paths).set_banner(WARNING, "test")
    with pytest.raises(BannerWrong):
        administration(paths).set_banner(text, "test")
    assert banner.read(paths.banner) == WARNING
    assert len(list(records(paths.audit))) == 2


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (banner.MAX_BYTES + 1)], ids=["not UTF-8", "too long"])
def test_what_somebody_else_put_there_is_told(paths: HostPaths, data: bytes) -> None:
    paths.state.mkdir(parents=True)
    paths.banner.write_bytes(data)
    with pytest.raises(BannerWrong):
        banner.read(paths.banner)


def test_the_longest_is_kept_whole(paths: HostPaths) -> None:
    text = "\U0001f512" * banner.MAX_CHARACTERS
    administration(paths).set_banner(text, "test")
    assert banner.read(paths.banner) == text
