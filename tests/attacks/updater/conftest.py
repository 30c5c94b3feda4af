# SPDX-License-Identifier: Apache-2.0
"""A publisher, its web server, and a host in generation 1; and the two ways to a host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.carriers import CARRIERS, Carrier
from lab.hostile import Scene, scene


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as running:
        yield running


@pytest.fixture(params=CARRIERS)
def carry(request: pytest.FixtureRequest) -> Carrier:
    """How a repository comes to the host: what holds on one way must hold on the other."""
    return CARRIERS[request.param]
