# SPDX-License-Identifier: Apache-2.0
"""Lines of the log are one object each, whatever strangers sent."""

from __future__ import annotations

import json
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from fleet.logs import MOST, Lines


def line(message: str, *, error: bool = False) -> str:
    trouble = None
    if error:
        try:
            raise ValueError(message)
        except ValueError:
            trouble = sys.exc_info()
    return Lines().format(logging.LogRecord("fleet.service", logging.INFO, "", 0, "refused: %s", (message,), trouble))


@given(st.text() | st.just("\x7f\x1b[2J\u202e\n"), st.booleans())
def test_a_line_is_one_object_and_acts_on_no_terminal(message: str, error: bool) -> None:
    said = line(message, error=error)
    assert said.isascii()
    assert said.isprintable()
    found = json.loads(said)
    assert (found["level"], found["logger"], found["message"]) == (
        "info",
        "fleet.service",
        f"refused: {message}"[:MOST],
    )
    assert ("error" in found) == error
    assert len(json.loads(line("x" * 9_999))["message"]) == MOST
