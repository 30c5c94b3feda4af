# SPDX-License-Identifier: Apache-2.0
"""What is said of one event of the audit trail. The events themselves: ``documents.audit_events``."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = ("cause", "code")
"""Details of whatever failed or was refused with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event.

    Attributes:
        name: as records have it.
        rows: requirements that ask for it.
        when: for people.
        details: by outcome, the details that each such record has at least.
    """

    name: str
    rows: tuple[str, ...]
    when: str
    details: tuple[tuple[str, tuple[str, ...]], ...]

    def required(self, outcome: str) -> tuple[str, ...] | None:
        """Details of a record with this outcome; None where the event has no such outcome."""
        return dict(self.details).get(outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecordedEvent:
    """One that a requirement asks for and that vmgate does not record, and why."""

    row: str
    event: str
    why: str
