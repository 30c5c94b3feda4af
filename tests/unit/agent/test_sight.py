# SPDX-License-Identifier: Apache-2.0
"""A file in a folder of which the agent has its own is refused by name of the reason, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import OutOfSight
from agent.sight import require_seen, require_sight


def test_a_file_that_the_agent_does_not_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfSight, match="put it elsewhere"):
        require_sight(tmp_path / "deep/bundle", (tmp_path,))


def test_one_that_it_sees_is_let_through(tmp_path: Path) -> None:
    (tmp_path / "bundle").touch()
    require_sight(tmp_path / "bundle", (tmp_path,))


def test_a_missing_one_elsewhere_is_anothers_business(tmp_path: Path) -> None:
    require_sight(tmp_path / "bundle", (tmp_path / "other",))


def test_nothing_is_written_where_only_a_boxed_agent_would_see_it(tmp_path: Path) -> None:
    boxed, free = tmp_path / "boxed", tmp_path / "free"
    boxed.write_text("CapEff:\t00000000300000eb\n")
    free.write_text("CapEff:\t000001ffffffffff\n")
    with pytest.raises(OutOfSight):
        require_seen(tmp_path / "set", (tmp_path,), boxed)
    require_seen(tmp_path / "set", (tmp_path,), free)
    require_seen(Path("/var/lib/vmgate/set"), (tmp_path,), boxed)
