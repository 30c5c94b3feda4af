# SPDX-License-Identifier: Apache-2.0
"""An administrator's pause of unattended updates: bounded, durable, with its reason, recorded.

It holds against urgent releases as well; it does not hold back the administrator's own ``update apply``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.audit import AuditTrail
from agent.errors import NotFound, PauseRefused
from content import durable
from content.errors import Missing
from documents.errors import DocumentError
from documents.fields import TEXT
from documents.unattended import UpdatePause

MAX_PAUSE = 90 * 86_400
"""Seconds. A host that is left paused for ever is one that nobody patches."""

MAX_REASON = 300


class Pause:
    """The pause of one host.

    Args:
        path: where it is kept.
        audit: who paused and resumed.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, path: Path, audit: AuditTrail, clock: Callable[[], int]) -> None:
        self._path = path
        self._audit = audit
        self._clock = clock

    def now(self) -> UpdatePause | None:
        """The pause, while it lasts.

        Raises:
            DocumentError: it is malformed or of a newer vmgate; ``end`` removes it.
            ContentError: it cannot be read.
        """
        try:
            pause = UpdatePause.parse(durable.read_file(self._path, UpdatePause.LIMIT))
        except Missing:
            return None
        return pause if self._clock() < pause.until else None

    def begin(self, until: int, reason: str, actor: str) -> UpdatePause:
        """Pause until a time; an earlier pause is replaced.

        Raises:
            PauseRefused: it has no end within bounds, or no reason.
            ContentError: it could not be recorded or written.
        """
        now = self._clock()
        if not now < until <= now + MAX_PAUSE:
            raise _refused("it would not end within 90 days from now", "use --days or --until")
        if not reason or len(reason) > MAX_REASON or not TEXT.fullmatch(reason):
            raise _refused("the reason is not one line of text", "use --reason")
        pause = UpdatePause(since=now, until=until, actor=actor, reason=reason)
        self._audit.append("update-pause", "started", "host", actor, until=str(until), reason=reason)
        durable.write_file(self._path, pause.encode())
        self._audit.append("update-pause", "done", "host", actor, until=str(until), reason=reason)
        return pause

    def end(self, actor: str) -> None:
        """End the pause.

        Raises:
            NotFound: there is none.
            ContentError: it could not be recorded or removed.
        """
        try:
            paused = self.now() is not None
        except DocumentError:
            paused = True
        if not paused:
            raise NotFound("nothing was resumed", cause="updates are not paused", remedy="see `vmgate status`")
        self._audit.append("update-resume", "started", "host", actor)
        durable.remove(self._path)
        self._audit.append("update-resume", "done", "host", actor)


def _refused(cause: str, remedy: str) -> PauseRefused:
    return PauseRefused("updates were not paused", cause=cause, remedy=remedy)
