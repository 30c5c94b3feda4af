# SPDX-License-Identifier: Apache-2.0
"""Whom a host follows besides its publisher: only who signs from the very anchor that the measured settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import NotReady, SiteAnchorRefused
from agent.paths import HostPaths
from agent.settings import Settings
from agent.site import site_of
from agent.site_settings import SiteSettings
from agent.transport import Sources, on_the_web, web
from documents.errors import Exit
from keys.anchor import TrustAnchor
from lab.publishing import Publisher


@pytest.fixture
def settings(tmp_path: Path) -> SiteSettings:
    anchor = tmp_path / "site.json"
    anchor.write_bytes(Publisher(tmp_path / "site").anchor)
    identity = TrustAnchor(anchor.read_bytes()).identity
    return SiteSettings(channels=("desk",), anchor=str(anchor), identity=identity)


def test_a_host_that_names_a_site_follows_it_from_its_anchor(settings: SiteSettings, tmp_path: Path) -> None:
    site = site_of(settings, HostPaths(tmp_path))
    assert site is not None
    assert (site.anchor.identity, site.channels) == (settings.identity, ("desk",))
    # What it says raises a floor of its own.
    assert site.floor != HostPaths(tmp_path).state / "floor"


def test_a_host_that_names_none_follows_none(tmp_path: Path) -> None:
    assert site_of(SiteSettings(), HostPaths(tmp_path)) is None


def _gone(anchor: Path) -> None:
    anchor.unlink()


def _of_another(anchor: Path) -> None:
    anchor.write_bytes(Publisher(anchor.parent / "other").anchor)


def _damaged(anchor: Path) -> None:
    anchor.write_bytes(anchor.read_bytes().replace(b'"version"', b'"Version"'))


@pytest.mark.parametrize(
    ("attack", "said"),
    [(_gone, "site.json"), (_of_another, "site.identity sha256:"), (_damaged, "")],
)
def test_another_anchor_is_refused(settings: SiteSettings, tmp_path: Path, attack: object, said: str) -> None:
    attack(Path(settings.anchor))  # type: ignore[operator]
    with pytest.raises(SiteAnchorRefused) as refusal:
        site_of(settings, HostPaths(tmp_path))
    assert refusal.value.exit == Exit.REFUSED
    assert said in refusal.value.cause


def test_a_host_may_have_either_repository_or_both() -> None:
    both = web(Settings(repository="http://vendor/", site=SiteSettings(repository="http://site/", channels=("desk",))))
    assert (both.publisher is not None, both.site is not None, both.offline) == (True, True, False)
    vendors = web(Settings(repository="http://vendor/"))
    assert (vendors.publisher is not None, vendors.site) == (True, None)
    sites = Settings(site=SiteSettings(repository="http://site/", channels=("desk",)))
    assert on_the_web(sites)
    assert web(sites).publisher is None


def test_a_host_without_any_says_so() -> None:
    assert not on_the_web(Settings())
    with pytest.raises(NotReady, match="names no repository"):
        web(Settings())
    assert not Sources(publisher=None).offline
