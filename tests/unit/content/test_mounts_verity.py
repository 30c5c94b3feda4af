# SPDX-License-Identifier: Apache-2.0
"""A device is asked about once for each look at the mounts: hundreds of files lie on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from content import mounts
from content.mounts import Mounts


@pytest.mark.parametrize("told", [True, False])
def test_the_answer_is_kept_as_long_as_the_mounts(told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def is_verity(device: str) -> bool:
        asked.append(device)
        return told

    monkeypatch.setattr(mounts, "is_verity", is_verity)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(2):
            looked = Mounts()
            for _ in range(3):
                found = looked.of(descriptor)
                assert found is not None
                assert found.verity is told
    finally:
        os.close(descriptor)
    assert len(asked) == 2
