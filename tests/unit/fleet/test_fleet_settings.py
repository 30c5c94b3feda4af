# SPDX-License-Identifier: Apache-2.0
"""The service's settings: what is written is read again, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import FolderWrong
from fleet.settings import FleetFolder, FleetSettings, checked


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    settings = FleetSettings(name="north", database="postgresql+psycopg://u@/d?host=/run", approval=True, processes=3)
    (tmp_path / "fleet.toml").write_bytes(settings.encode())
    assert FleetFolder(tmp_path).load() == settings


@pytest.mark.parametrize(
    "line",
    [
        "unknown = 1", 'name = "A B"', "name = 7", "interval = 1", "interval = true", "approval = 1", "processes = 0",
        'listen = "127.0.0.1"', 'database = "mysql://x"', 'database = "sqlite:///a b"', 'channel = ""', "not toml",
        'certificate = ""',
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "fleet.toml").write_text(line + "\n")
    with pytest.raises(FolderWrong):
        FleetFolder(tmp_path).load()


def test_no_settings_are_none(tmp_path: Path) -> None:
    with pytest.raises(FolderWrong):
        FleetFolder(tmp_path).load()
    with pytest.raises(FolderWrong):
        checked(FleetSettings(interval=5))


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b"x" * 33])
def test_a_secret_of_another_size_is_none(tmp_path: Path, secret: bytes) -> None:
    folder = FleetFolder(tmp_path)
    folder.secret.parent.mkdir()
    with pytest.raises(FolderWrong):
        folder.read_secret()
    folder.secret.write_bytes(secret)
    with pytest.raises(FolderWrong):
        folder.read_secret()
