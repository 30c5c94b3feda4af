# SPDX-License-Identifier: Apache-2.0
"""Which records of a trail a reader asked for, and how they are written for other programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.offload.message import encode
from documents.audit import AuditRecord, SignedHead

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
LAST = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was asked for; what is not given selects all.

    Attributes:
        event: exactly this event.
        outcome: exactly this outcome.
        subject: exactly this subject.
        since: seconds since 1970 UTC, from then on.
        until: seconds since 1970 UTC, before then.
        first: sequence of the first record.
        last: sequence of the last record.
    """

    event: str = ""
    outcome: str = ""
    subject: str = ""
    since: int = 0
    until: int = LAST
    first: int = 1
    last: int = LAST

    def chosen(self, records: Iterable[AuditRecord]) -> Iterator[AuditRecord]:
        """Those of ``records`` that were asked for, in their order."""
        for record in records:
            if (
                self.event in ("", record.event)
                and self.outcome in ("", record.outcome)
                and self.subject in ("", record.subject)
                and self.since <= record.time < self.until
                and self.first <= record.sequence <= self.last
            ):
                yield record


def seconds(text: str) -> int:
    """Seconds since 1970 UTC of ``2026-11-26`` (its beginning) or ``2026-11-26T04:05:06Z``.

    Raises:
        ValueError: it is neither.
    """
    if _DAY.fullmatch(text):
        text += "T00:00:00Z"
    if not _INSTANT.fullmatch(text):
        raise ValueError(text)
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def exported(records: Iterable[AuditRecord], signed: SignedHead | None, form: str, hostname: str) -> Iterator[bytes]:
    """Lines without their ends: the records, and after them the signed head where the form has a place for it.

    Args:
        records: that were asked for.
        signed: the newest signed head, if any.
        form: ``json``, each as the trail has it, or ``syslog``, each as the log server gets it.
        hostname: of this host, for syslog.
    """
    for record in records:
        yield record.encode() if form == "json" else encode(record, hostname)
    if form == "json" and signed is not None:
        yield signed.encode()
