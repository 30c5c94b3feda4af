# SPDX-License-Identifier: Apache-2.0
"""A host whose policy lets it remember what it read: the second start reads no image, and a change is still found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from lab.publisher import Desk
from lab.refusal import refused_by_agent, unchanged
from lab.world import VM_NAME, World, copied, folder, living, serving

POLICY = 'digests = "once-per-boot"\n'
ROOTS_ALONE = "/srv"
"""Only what nobody but root can change is remembered, and anybody may write to /var/tmp."""

QUIET_SECONDS = 3
"""A file must have been left alone for two before it is read to be remembered."""


@pytest.fixture(scope="module")
def world(desk: Desk) -> Iterator[World]:
    with folder("once") as below:
        copy = copied(desk, below)
        copy.release(copy.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=POLICY))
        with serving(copy.repository) as url, living("once", copy, url, above=ROOTS_ALONE) as world:
            world.run("update", "apply")
            time.sleep(QUIET_SECONDS)
            yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def image(world: World) -> dict[str, str]:
    """The finding about the VM's one disk at its last start."""
    findings = world.ask("vm/why", name=VM_NAME)["verdict"]["findings"]
    (found,) = [finding for finding in findings if finding["check"] == "image"]
    return dict(found)


def test_what_was_read_once_in_a_boot_is_not_read_again_and_the_verdict_says_so(world: World) -> None:
    world.ask("vm/start", name=VM_NAME)
    first = image(world)
    world.kill_vm()
    world.ask("vm/start", name=VM_NAME)
    assert (first.get("taken"), image(world).get("taken")) == (None, "memory")
    assert image(world)["outcome"] == "pass"
    assert "read earlier in this boot" in world.run("vm", "why", VM_NAME)


def test_a_file_that_changed_is_read_again_even_if_its_times_were_put_back(world: World) -> None:
    world.ask("vm/start", name=VM_NAME)
    world.kill_vm()
    path = world.stored("image")
    before, good = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(good) // 2)
        file.write(bytes([good[len(good) // 2] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    try:
        with unchanged(world):
            assert ("image", "disk system") in refused_by_agent(world)
    finally:
        path.write_bytes(good)
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    assert image(world).get("taken") is None, "it was read"


def test_an_agent_that_starts_again_remembers_nothing(world: World) -> None:
    world.ask("vm/start", name=VM_NAME)
    world.kill_vm()
    world.host.stop_agent()
    world.host.start_agent()
    world.ask("vm/start", name=VM_NAME)
    assert image(world).get("taken") is None
