# SPDX-License-Identifier: Apache-2.0
"""A host that updates itself: the timer says "now", and this looks up, decides, acts, and says truthfully what it did.

The decision is ``agent.schedule``'s. The look-up is made whatever the decision will be: it tells whether something
urgent is there, and that nobody keeps this host from its repository. What an update may do, and when it goes back, is
``agent.updates``' business and the same as with an administrator.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.contact import Contact
from agent.desktop import on_metered
from agent.hooks import Hooks
from agent.outside import Outside
from agent.pause import Pause
from agent.restarts import Restarts
from agent.schedule import Decision, Situation, clock, decide, window_open
from agent.transport import on_the_web
from agent.update_settings import zone
from agent.updates import Updates
from documents.canonical import Json
from documents.errors import VmgateError
from documents.release import Release
from updater.client.candidate import Candidate

log = logging.getLogger(__name__)


class Unattended:
    """Answers ``vmgate update apply --unattended``, ``pause`` and ``resume``.

    Args:
        outside, updates, contact, hooks, restarts: of this host.
    """

    def __init__(self, outside: Outside, updates: Updates, contact: Contact, hooks: Hooks, restarts: Restarts) -> None:
        self._outside = outside
        self._settings = outside.settings.update
        self._updates = updates
        self._contact = contact
        self._hooks = hooks
        self._restarts = restarts
        self._pause = Pause(outside.paths.update_pause, outside.audit, outside.clock)
        self._busy = threading.Lock()

    def run(self, actor: str, change: Callable[[Callable[[], dict[str, Json]]], dict[str, Json]]) -> dict[str, Json]:
        """Update if it is time, then restart VMs that are to run it.

        Args:
            actor: for the record.
            change: runs what changes the releases, one at a time.

        Raises:
            UpdatesSilent: it failed, and updates were out of reach for too long by now.
            HookFailed: a hook said no.
            VmgateError: as ``vmgate update apply``.
        """
        if not self._busy.acquire(blocking=False):
            return _told(Decision(act=False, why="busy", sentence="not now: another unattended run is at work"))
        try:
            return self._run(actor, change)
        finally:
            self._busy.release()

    def _run(self, actor: str, change: Callable[[Callable[[], dict[str, Json]]], dict[str, Json]]) -> dict[str, Json]:
        if not on_the_web(self._outside.settings):
            return _told(Decision(act=False, why="no-repository", sentence="not now: vmgate.toml names no repository"))
        try:
            result = change(lambda: self._update(actor))
        except VmgateError as error:
            # What an earlier run brought is not kept from its VMs by a repository that is away.
            self._restart(actor)
            if self._contact.silent():
                raise self._contact.failure(str(error)) from error
            raise
        return result | self._restart(actor)

    def _update(self, actor: str) -> dict[str, Json]:
        candidate = self._updates.look_up()
        decision = decide(self._situation(candidate))
        held_back: list[Json] = [*candidate.resolution.held_back]
        if not decision.act:
            self._updates.heard(candidate)
            return _told(decision) | {"held_back": held_back}
        values = {"VMGATE_RELEASES": ", ".join(f"{r.channel} {r.number}" for r in _releases(candidate))}
        try:
            self._hooks.run("update-before", actor, values)
        except VmgateError:
            # The host's own no is not a repository out of reach.
            self._updates.heard(candidate)
            raise
        try:
            update = self._updates.apply_found(candidate, actor)
        except VmgateError:
            self._hooks.try_run("update-after", actor, values | {"VMGATE_RESULT": "failed"})
            raise
        hooks = self._hooks.try_run("update-after", actor, values | {"VMGATE_RESULT": "done"})
        return _told(decision) | {"held_back": held_back, "update": update, "hooks": hooks}

    def _situation(self, candidate: Candidate) -> Situation:
        pause = self._pause.now()
        new = candidate.resolution.new
        return self._around(
            paused_until=pause.until if pause else 0,
            # Asked only where the answer matters: it takes another program.
            on_metered=new and self._settings.metered != "always" and on_metered(),
            pending=self._updates.pending(),
            new=new,
            urgent=any(release.urgent for release in self._updates.new_of(candidate)),
            due=min((release.due for release in candidate.waiting), default=0),
            held_back=bool(candidate.resolution.held_back),
        )

    def _around(self, **values: bool | int) -> Situation:
        settings = self._settings
        return Situation(
            now=self._outside.clock(),
            zone=zone(settings),
            windows=settings.windows,
            metered=settings.metered,
            **values,  # type: ignore[arg-type]  # the names are those of Situation
        )

    def _restart(self, actor: str) -> dict[str, Json]:
        """Restart VMs, unless a pause or an unconfirmed update says that nothing is to stop.

        What goes wrong here is told with the rest: the update itself is done.
        """
        try:
            if self._pause.now() is not None or not self._updates.settled():
                return {}
            return {"restarts": self._restarts.run(actor, window=window_open(self._around()))}
        except VmgateError as error:
            log.warning("VMs were not restarted: %s", error)
            return {"vms": error.line()}

    def pause(self, until: int, reason: str, actor: str) -> dict[str, Json]:
        """Pause until a time."""
        pause = self._pause.begin(until, reason, actor)
        return {"until": pause.until, "said": f"paused until {clock(pause.until, zone(self._settings))}"}

    def resume(self, actor: str) -> dict[str, Json]:
        """End the pause."""
        self._pause.end(actor)
        return {"said": "resumed"}

    def status(self) -> dict[str, Json]:
        """What ``vmgate status`` says of it: a pause, the last contact, and whether the silence is an alarm."""
        silent = self._contact.silent()
        contact = self._contact.look()
        pause = self._pause.now()
        where = zone(self._settings)
        return {
            "silent": silent,
            "reached": clock(contact.time, where) if contact.heard else "never",
            "paused": f"until {clock(pause.until, where)} by {pause.actor}: {pause.reason}" if pause else "no",
        }


def _releases(candidate: Candidate) -> tuple[Release, ...]:
    return tuple(map(Release.parse, candidate.resolution.releases))


def _told(decision: Decision) -> dict[str, Json]:
    return {
        "acted": decision.act,
        "why": decision.why,
        "said": decision.sentence,
        "next": decision.next,
        "held_back": [],
        "update": {},
        "hooks": "",
        "restarts": [],
        "vms": "",
    }
