# SPDX-License-Identifier: Apache-2.0
"""A publisher, its web server, and a host in generation 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hostile import Scene, scene


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as running:
        yield running
