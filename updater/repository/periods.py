# SPDX-License-Identifier: Apache-2.0
"""How long signed metadata is valid. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """Seconds from signing to expiry, by role."""

    root: int = 365 * DAY
    targets: int = 365 * DAY
    releases: int = 365 * DAY
    assignments: int = 365 * DAY
    snapshot: int = 30 * DAY
    timestamp: int = 7 * DAY


PERIODS = Periods()


def expiry(now: int, period: int) -> datetime:
    """When metadata expires that is signed now (seconds since 1970 UTC)."""
    return datetime.fromtimestamp(now + period, UTC)
