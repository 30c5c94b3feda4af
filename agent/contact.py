# SPDX-License-Identifier: Apache-2.0
"""When updates were last within this host's reach, and the alarm when that is too long ago.

Who drops a host's requests, or answers them with what was true once, keeps it from security updates without breaking
anything: it shows only as silence. What counts is a look-up with fresh metadata, over the network or from a bundle,
after which nothing had to be fetched, or was. The alarm is recorded once for each silence. This module looks nothing
up itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from agent.audit import AuditTrail
from agent.errors import UpdatesSilent
from content import durable
from content.errors import Missing
from documents.unattended import UpdateContact

DAY = 86_400


def is_silent(contact: UpdateContact, now: int, days: int) -> bool:
    """Whether a silence is an alarm. Pure. A clock well before the last look-up tells no age, so that counts as one."""
    return now > contact.time + days * DAY or now < contact.time - DAY


class Contact:
    """What this host knows of its contact with the repository.

    Args:
        path: where it is kept.
        audit: for the alarm.
        clock: gives seconds since 1970 UTC.
        days: of silence that are an alarm; 0 where no repository is followed, and silence is normal.
    """

    def __init__(self, path: Path, audit: AuditTrail, clock: Callable[[], int], days: int) -> None:
        self._path = path
        self._audit = audit
        self._clock = clock
        self._days = days
        self._lock = threading.Lock()

    def heard(self) -> None:
        """Updates were within reach."""
        with self._lock:
            self._write(UpdateContact(time=max(0, self._clock()), heard=True, told=False))

    def look(self) -> UpdateContact:
        """The last contact; counting begins with the first look."""
        with self._lock:
            return self._read()

    def silent(self) -> bool:
        """Whether the silence is an alarm; the first time that it is, it is recorded."""
        with self._lock:
            contact = self._read()
            alarm = self._days > 0 and is_silent(contact, self._clock(), self._days)
            if alarm and not contact.told:
                last = str(contact.time) if contact.heard else "never"
                self._audit.append("update-silence", "failed", "host", "agent", last=last, days=str(self._days))
                self._write(UpdateContact(time=contact.time, heard=contact.heard, told=True))
            return alarm

    def failure(self, cause: str) -> UpdatesSilent:
        """The error of what failed in a silence that is an alarm."""
        return UpdatesSilent(
            f"updates were out of reach for more than {self._days} days",
            cause=cause,
            remedy="mend the way to the repository, or import a fresh bundle",
        )

    def _read(self) -> UpdateContact:
        try:
            return UpdateContact.parse(durable.read_file(self._path, UpdateContact.LIMIT))
        except Missing:
            begun = UpdateContact(time=max(0, self._clock()), heard=False, told=False)
            self._write(begun)
            return begun

    def _write(self, contact: UpdateContact) -> None:
        durable.write_file(self._path, contact.encode())
