# SPDX-License-Identifier: Apache-2.0
"""What all crash tests share: a disk that need not turn, since cuts are modelled, and one stage for the matrix."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from content import effects
from lab.matrix import Stage, stage


@pytest.fixture(autouse=True, scope="session")
def patient_disk() -> Iterator[None]:
    """``fsync`` without waiting for a disk: what it promises is the model's part. A bad descriptor still fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(scope="session")
def play(patient_disk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage of all rows."""
    with stage(tmp_path_factory.mktemp("stage") / "publisher") as made:
        yield made
