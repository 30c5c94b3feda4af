# SPDX-License-Identifier: Apache-2.0
"""The page of audit events, made from the table. ``PYTHONPATH=tests python -m lab.audit_page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from documents.audit_event import AuditEvent
from documents.audit_events import EVENTS, UNRECORDED

PAGE = Path(__file__).resolve().parents[2] / "docs/audit-events.md"
HEAD = """# Audit events
Every record has a number, time, boot, event, outcome, subject, actor and the hash of the record before it. `started` is
written before an act, the other outcomes after it. The details named here are in every such record; more may be.
The requirements are those of the Protection Profile for Virtualization and its client module. This page is made from
`documents/audit_events.py`: `PYTHONPATH=tests python -m lab.audit_page`.

| event | when | outcomes and their details | asked for by |
|---|---|---|---|
"""
REST = """
## Asked for and not recorded
| asked for by | event | why not |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rest = "".join(f"| {item.row} | {item.event} | {item.why} |\n" for item in UNRECORDED)
    return HEAD + "".join(_row(event) for event in sorted(EVENTS, key=lambda event: event.name)) + REST + rest


def _row(event: AuditEvent) -> str:
    told = "; ".join(
        f"`{outcome}`" + (": " + ", ".join(f"`{name}`" for name in details) if details else "")
        for outcome, details in event.details
    )
    return f"| `{event.name}` | {event.when} | {told} | {', '.join(event.rows)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
