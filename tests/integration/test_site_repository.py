# SPDX-License-Identifier: Apache-2.0
"""A host that follows its site's own repository on top of its publisher's: each says what is its own, and no more.

The tests are one story in their order: each goes on with the host that the one before left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentSaid
from documents.errors import Exit
from keys.anchor import TrustAnchor
from lab.guest_image import cache_folder
from lab.publisher import VM_NAME, Desk
from lab.refusal import newest, unchanged
from lab.world import World, copied, living, serving

OWN = "own"


@pytest.fixture(scope="module")
def publisher(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return copied(desk, tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def site(publisher: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Somebody with keys of their own."""
    below = tmp_path_factory.mktemp("site")
    site = Desk(below / "site", cache_folder(), hidden=below / "hidden")
    site.vmgate("repo", "init", site.repository, "--keys", site.keys, "--anchor", site.anchor, "--channel", "site")
    _release(site, publisher, OWN)
    return site


def _release(site: Desk, publisher: Desk, name: str) -> None:
    """A VM of the site's, from the image that the publisher's firmware starts."""
    (site.folder / "vm.toml").write_text(
        f"""\
name = "{name}"
uuid = "0d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99"
title = "Of the site"
machine = "pc-q35-7.2"
vcpus = 1
memory_mib = 512
guardians = ["tpm"]

[[disks]]
name = "system"
image = "image"
class = "readonly"
"""
    )
    recipe = site.folder / "recipe.toml"
    recipe.write_text(
        f"""\
authority = "workload"
channel = "site"
epoch = 1
minimum_agent = "0.1.0"
import_days = 30
accepts = [1, 9]
definitions = ["vm.toml"]

[images]
image = "{publisher.folder / "hello-1.img"}"
"""
    )
    site.release(recipe)


@pytest.fixture(scope="module")
def world(publisher: Desk, site: Desk) -> Iterator[World]:
    with serving(publisher.repository) as url, serving(site.repository) as sites:
        settings = f"""\
[site]
repository = "{sites}"
channels = ["site"]
anchor = "{site.anchor}"
identity = "sha256:{TrustAnchor(site.anchor.read_bytes()).identity}"
"""
        with living("site", publisher, url, settings) as world:
            yield world
            world.kill_vm(OWN)


def test_both_repositories_make_one_generation(world: World) -> None:
    world.run("update", "apply")
    assert world.generation() == {"platform": 1, "workload": 1, "site": 1}
    assert {vm["name"] for vm in world.ask("vm/list")["vms"]} == {VM_NAME, OWN}


def test_a_verdict_says_whose_word_a_vm_is(world: World) -> None:
    assert world.ask("vm/start", name=OWN)["status"] == "warning"
    findings = world.ask("vm/why", name=OWN)["verdict"]["findings"]
    words = {finding["check"]: finding["authority"] for finding in findings}
    assert {words[check] for check in ("definition", "image", "domain")} == {"site"}
    assert words["component-now"] == "publisher"
    world.kill_vm(OWN)


def test_the_site_cannot_bring_what_is_the_publishers(world: World, site: Desk) -> None:
    _release(site, world.desk, VM_NAME)
    # The time of the publisher's metadata is certain, whatever the site says.
    with unchanged(world, "floor"), pytest.raises(AgentSaid) as refusal:
        world.ask("update/apply")
    assert refusal.value.status == Exit.REFUSED
    assert f"site 2 of the site brings vm/{VM_NAME}, which workload 1 has" in refusal.value.line()
    assert newest(world, "update-apply").outcome == "refused"


def test_what_a_site_does_holds_back_nothing_of_the_publishers(world: World) -> None:
    desk = world.desk
    desk.release(desk.write_workload(title="The second", image="hello-1.img", accepts=(1, 9)))
    done = world.ask("update/apply")
    assert world.generation() == {"platform": 1, "workload": 2, "site": 1}
    assert done["held_back"] == [f"what the site has: site 2 of the site brings vm/{VM_NAME}, which workload 2 has"]


def test_a_bundle_of_the_site_is_taken_as_the_sites_alone(world: World, site: Desk, tmp_path: Path) -> None:
    _release(site, world.desk, OWN)
    bundle = world.folder / "site.bundle"
    site.vmgate("bundle", "create", site.repository, bundle, "--channel", "site")
    with unchanged(world):
        done = world.host.vmgate("update", "import", bundle)
    assert (done.exit, "was signed by 0/1 keys" in done.err) == (Exit.REFUSED, True), done.err
    world.run("update", "import", "--site", bundle)
    assert world.generation() == {"platform": 1, "workload": 2, "site": 3}
