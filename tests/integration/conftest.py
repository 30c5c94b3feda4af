# SPDX-License-Identifier: Apache-2.0
"""What modules of whole-host tests share: one publisher with first releases, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import world
from lab.publisher import Desk


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    """Platform 1 and workload 1 are published. Who publishes more takes a copy: ``lab.world.copied``."""
    with world.folder("publisher") as below:
        yield world.published(below)
