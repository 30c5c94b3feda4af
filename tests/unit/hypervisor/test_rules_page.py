# SPDX-License-Identifier: Apache-2.0
"""The page of hardening rules is made from the rules."""

from __future__ import annotations

from lab.rules_page import PAGE, page


def test_the_page_is_the_rules() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.rules_page"
