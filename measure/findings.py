# SPDX-License-Identifier: Apache-2.0
"""How findings are made, wherever something is compared. This module compares nothing itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from documents.verdict import Finding

NOTHING = "nothing"


def compare(check: str, subject: str, expected: str, found: str, authority: str = "publisher") -> Finding:
    """A finding that passes if both texts are the same and say something."""
    good = bool(expected) and expected == found
    return finding(check, subject, expected or NOTHING, found or NOTHING, good=good, authority=authority)


def finding(
    check: str, subject: str, expected: str, found: str, *, good: bool, authority: str = "publisher"
) -> Finding:
    """A finding that passes or fails."""
    outcome = "pass" if good else "fail"
    return Finding(check=check, subject=subject, outcome=outcome, expected=expected, found=found, authority=authority)


def enforced(found: Finding, component: str, warn_only: Collection[str]) -> Finding:
    """A finding about one component as the policy has it: a failure of what it only warns about is a warning."""
    warned = found.outcome == "fail" and component in warn_only
    return replace(found, outcome="warn") if warned else found
