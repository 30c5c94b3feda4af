# SPDX-License-Identifier: Apache-2.0
"""Twenty VMs are started at once, while others ask libvirt and the agent: each start is judged, and nobody hangs.

libvirtd has twenty ordinary workers, and each waits in the hook; the gate needs libvirt itself to give it the keys.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.many import release_many
from lab.publisher import Desk
from lab.world import World, copied, living, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
COUNT = 20
GUARD = 600
"""Seconds after which a command is taken for hung."""
ASKING = 6
"""More than libvirtd has workers for urgent calls."""
NAMES = [f"small-{number:02}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    release_many(publisher, NAMES)
    with serving(publisher.repository) as url, living("many", publisher, url) as world:
        world.run("update", "apply")
        yield world


def _virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As an administrator's, who waits."""
    command = ["virsh", "-q", "-c", "qemu:///system", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD)


def test_twenty_starts_at_once_neither_hang_nor_take_libvirt_away(world: World) -> None:
    ended = threading.Event()
    asked: list[int] = []

    def ask() -> None:
        """Somebody's monitoring, who asks libvirt about the very domains that are being started."""
        while not ended.is_set():
            asked.append(_virsh("list", "--all").returncode)
            _virsh("domstate", NAMES[len(asked) % COUNT])

    askers = [threading.Thread(target=ask) for _ in range(ASKING)]
    for asker in askers:
        asker.start()
    try:
        with ThreadPoolExecutor(COUNT) as pool:
            # Their processors stand still: twenty emulated guests would be a test of this machine.
            done = list(pool.map(lambda name: _virsh("start", "--paused", name), NAMES))
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert [one.stderr for one in done if one.returncode] == []
    assert asked
    assert set(asked) == {0}
    running = world.virsh("list", "--name").stdout.split()
    assert sorted(running) == NAMES
    assert world.secrets() == ""
    started = [record.subject for record in world.trail() if (record.event, record.outcome) == ("vm-start", "done")]
    assert sorted(started) == NAMES
    assert [subject for _, event, subject in world.events() if event == "vm-start"] == [
        record.subject for record in world.trail() if (record.event, record.outcome) == ("vm-start", "started")
    ]
    assert world.ask("status")["faults"] == []


def test_twenty_ends_at_once_are_all_heard(world: World) -> None:
    with ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(lambda name: _virsh("destroy", name), NAMES))
    assert world.virsh("list", "--name").stdout.split() == []
    stopped = [record.subject for record in world.trail() if record.event == "vm-stop"]
    assert sorted(stopped) == NAMES
    assert world.ask("status")["faults"] == []
