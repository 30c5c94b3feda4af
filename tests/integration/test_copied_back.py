# SPDX-License-Identifier: Apache-2.0
"""A whole host whose /var/lib/vmgate is copied back from before a raised epoch: as a whole, and without its key.

One story. The TPM is left alone, as a chip is; whoever copies back a software TPM's state as well is not found out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lab.publisher import Desk
from lab.refusal import refused_by_agent
from lab.world import VM_NAME, World, copied, living, serving

KEY = "tpm/host-key.json"


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host that ran release 1, and runs release 2 of a higher epoch; its folder of release 1 was kept by somebody."""
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    with serving(publisher.repository) as url, living("copied", publisher, url) as world:
        world.run("update", "apply")
        _starts(world)
        world.host.stop_agent()
        shutil.copytree(world.state_folder, world.folder / "year-ago", symlinks=True)
        world.host.start_agent()
        publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, epoch=2))
        world.run("update", "apply")
        _starts(world)
        yield world


def _starts(world: World) -> None:
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()


def _copy_back(world: World) -> None:
    """What somebody with the disk does."""
    world.host.stop_agent()
    for path in world.state_folder.iterdir():
        # The content store is large, and no secret; the trail is looked after by what was off-loaded.
        if path.name not in ("store", "audit"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    skip = shutil.ignore_patterns("store", "audit")
    shutil.copytree(world.folder / "year-ago", world.state_folder, symlinks=True, dirs_exist_ok=True, ignore=skip)
    world.host.power_cycle()
    world.host.start_agent()


def test_the_raise_was_recorded(world: World) -> None:
    told = [(r.outcome, dict(r.details).get("why", "")) for r in world.trail() if r.event == "host-key"]
    assert told == [
        ("started", "there is none"),
        ("done", "there is none"),
        ("started", "the security epoch rose to 2"),
        ("done", "the security epoch rose to 2"),
    ]
    assert (12, "epoch", "epoch/2") in world.events()


def test_copied_back_as_a_whole_no_key_opens_and_the_newest_file_is_the_way_out(world: World) -> None:
    newest = (world.state_folder / KEY).read_bytes()
    _copy_back(world)
    assert world.generation() == {"platform": 1, "workload": 1}
    assert refused_by_agent(world) == [("vm-key", VM_NAME)]
    why = world.run("vm", "why", VM_NAME)
    assert "past the value at which this key opens" in why
    done = world.host.vmgate("update", "apply")
    assert done.exit == 5
    assert "put back the newest host-key.json" in done.err
    world.host.stop_agent()
    (world.state_folder / KEY).write_bytes(newest)
    world.host.power_cycle()
    world.host.start_agent()
    # Release 1 is of an epoch that was shut out.
    assert refused_by_agent(world) == [("vm-key", VM_NAME)]
    world.run("update", "apply")
    assert world.generation() == {"platform": 2, "workload": 1}
    _starts(world)


def test_copied_back_in_part_the_floor_is_known_from_the_key(world: World) -> None:
    """Of the floor's file alone: what it says is less than what the host has confirmed."""
    world.host.stop_agent()
    (world.state_folder / "floor").write_bytes((world.folder / "year-ago/floor").read_bytes())
    world.host.start_agent()
    _starts(world)
    count = len([r for r in world.trail() if r.event == "floor"])
    world.run("update", "check")
    found = [r for r in world.trail() if r.event == "floor"]
    assert len(found) == count + 1
    assert (found[-1].outcome, "copied it back" in dict(found[-1].details)["why"]) == ("failed", True)
    # The file says it again, and from then on there is nothing to tell.
    world.run("update", "check")
    assert len([r for r in world.trail() if r.event == "floor"]) == count + 1
