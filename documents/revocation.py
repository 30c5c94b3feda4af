# SPDX-License-Identifier: Apache-2.0
"""What a platform release says about a VM that runs and may not run any more. This module does nothing about it."""

from __future__ import annotations

from dataclasses import dataclass

from documents.canonical import Json
from documents.fields import Fields

ACTS = ("suspend", "kill")
LONGEST = 604_800
"""Seconds; a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How a VM ends that was taken back while it runs.

    Attributes:
        act: one of ``ACTS``. A suspended VM keeps its memory, and is suspended again if somebody resumes it.
        seconds: between the word to its user and the act; 0 for at once.
        message: for the user; empty for vmgate's own words alone.
    """

    act: str = ACTS[0]
    seconds: int = 600
    message: str = ""

    def members(self) -> dict[str, Json]:
        """For encoding."""
        return {"act": self.act, "seconds": self.seconds, "message": self.message}


DEFAULT = Revocation()
"""Where a policy says nothing: ten minutes to save one's work, then the VM stands still."""


def read_revocation(untrusted: Json) -> Revocation:
    """Read what a policy says.

    Raises:
        DocumentError: it is not in its form, or what it would be without.
    """
    fields = Fields(untrusted, "revocation")
    revocation = Revocation(
        act=fields.take_choice("act", ACTS),
        seconds=fields.take_int("seconds", 0, LONGEST),
        message=fields.take_text("message", limit=200, empty=True),
    )
    if revocation == DEFAULT:
        raise fields.wrong("act", "stands with all that is the default anyway")
    fields.finish()
    return revocation
