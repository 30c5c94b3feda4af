# SPDX-License-Identifier: Apache-2.0
"""The rig's image, built before the first test that needs it; `make rig` shows how far it is."""

from __future__ import annotations

import pytest

from rig.image import Image, build


@pytest.fixture(scope="session")
def image() -> Image:
    """The host's image for the present sources."""
    return build()
