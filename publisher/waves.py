# SPDX-License-Identifier: Apache-2.0
"""The waves of a release as people write them: ``waves = ["4h 1%", "1d 15%", "6d 100%"]``.

Each says how long after the publication, in minutes, hours or days, which share of the hosts has its turn. Whether the
steps fit together is judged where the release is planned.
"""

from __future__ import annotations

import re

from documents.tables import Table
from documents.waves import MAX_WAVES, Wave

STEP = re.compile(r"([0-9]{1,5})(m|h|d) ([0-9]{1,3})(?:\.([0-9]))?%")
SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


def read_waves(table: Table) -> tuple[Wave, ...]:
    """Take the optional key ``waves``.

    Raises:
        RecipeWrong: it is empty, or a step is not in its form.
    """
    if not table.has("waves"):
        return ()
    waves = tuple(map(_step, table.take_texts("waves", STEP, MAX_WAVES, 20)))
    if not waves:
        raise table.wrong("waves", "is empty: leave it out for all hosts at once")
    return waves


def _step(text: str) -> Wave:
    step = STEP.fullmatch(text)
    if step is None:
        raise ValueError(f"{text!r} was read as a step and is none")
    count, unit, percent, tenth = step.groups()
    return Wave(after=int(count) * SECONDS[unit], share=int(percent) * 10 + int(tenth or 0))
