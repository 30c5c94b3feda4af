# SPDX-License-Identifier: Apache-2.0
"""One host for all tests of the gate. Each test finds its VM off and leaves it so, with every file as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.publisher import Desk
from lab.world import World, living, serving


@pytest.fixture(scope="package")
def world(desk: Desk) -> Iterator[World]:
    with serving(desk.repository) as url, living("gate", desk, url) as world:
        world.run("update", "apply")
        yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()
