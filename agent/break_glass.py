# SPDX-License-Identifier: Apache-2.0
"""Breaking the glass: an administrator imports a bundle that is beyond its days, within bounds and for a reason.

Whether the administrator has just proved who they are is asked before (``agent.access``). What the days mean is
``updater.client.metadata``'s affair. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from agent.errors import BreakGlassRefused
from documents.fields import TEXT

MAX_DAYS = 3660
"""As many as a release itself may allow."""

MAX_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """What an administrator answers for.

    Attributes:
        days: after publication, during which releases with expired metadata are taken.
        reason: one line.
    """

    days: int
    reason: str

    @classmethod
    def parse(cls, untrusted_days: str, untrusted_reason: str) -> Self:
        """Read the texts of a request.

        Raises:
            BreakGlassRefused: the days are not within bounds, or there is no reason of one line.
        """
        whole = untrusted_days.isascii() and untrusted_days.isdecimal() and len(untrusted_days) <= len(str(MAX_DAYS))
        if not whole or not 1 <= int(untrusted_days) <= MAX_DAYS:
            raise _refused(f"the days are not 1 to {MAX_DAYS}", "use --allow-stale DAYS")
        if not untrusted_reason or len(untrusted_reason) > MAX_REASON or not TEXT.fullmatch(untrusted_reason):
            raise _refused(f"there is no reason of one line and at most {MAX_REASON} characters", "use --reason TEXT")
        return cls(days=int(untrusted_days), reason=untrusted_reason)

    def details(self) -> dict[str, str]:
        """For the audit trail."""
        return {"days": str(self.days), "reason": self.reason}


def _refused(cause: str, remedy: str) -> BreakGlassRefused:
    return BreakGlassRefused("nothing was imported", cause=cause, remedy=remedy)
