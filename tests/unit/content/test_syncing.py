# SPDX-License-Identifier: Apache-2.0
"""A file reaches the disk while it is written, and a disk that refuses it is told of, in a thread or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from content import durable, effects
from content.errors import StorageFailed
from content.syncing import Syncing


@pytest.mark.parametrize("apart", [False, True])
def test_it_is_synchronised_when_enough_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(effects, "fsync", synced.append)
    with durable.Writer(tmp_path / "file") as writer, Syncing(writer, 10, apart=apart) as syncing:
        syncing.written(9)
        assert not synced
        syncing.written(1)
    assert synced == [writer.descriptor]


@pytest.mark.parametrize("apart", [False, True])
def test_what_could_not_be_synchronised_is_told_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(effects, "fsync", refuse)
    writer = durable.Writer(tmp_path / "file", keep=True)
    with pytest.raises(StorageFailed), writer, Syncing(writer, 10, apart=apart) as syncing:
        syncing.written(10)
    assert not (tmp_path / "file").exists()
