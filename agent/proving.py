# SPDX-License-Identifier: Apache-2.0
"""A generation from its switch to its end: confirmed once it is in effect and healthy, or left and remembered.

The trial is on the disk before the switch, and counted before anything of it runs, so that a cut anywhere begins it
again, and one that is cut too often ends. This module fetches nothing; what healthy means is ``agent.trial``'s.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager

from agent.errors import Unhealthy
from agent.outside import Outside
from agent.settling import Settling, speaks_against
from agent.trial import HealthCheck
from documents.errors import VmgateError
from documents.host_state import Generation
from updater.client.transaction import Update
from updater.client.trials import MOST_TRIES, Trials

LOOK_SECONDS = 2.0
"""Between two looks at a generation that is not healthy yet."""


class Proving:
    """The trial of one host's generations.

    Args:
        outside: of this host.
        update: the transaction that it ends.
        settling: brings what is switched to into effect.
        health: what a generation has to show.
        turn: held while generations switch, see ``agent.launch``.

    Attributes:
        changing: held by whoever changes what is active: a trial ends by itself, or by an administrator's word.
    """

    def __init__(
        self,
        outside: Outside,
        update: Update,
        settling: Settling,
        health: HealthCheck,
        turn: AbstractContextManager[bool],
    ) -> None:
        self._audit = outside.audit
        self._update = update
        self._settling = settling
        self._health = health
        self._turn = turn
        self._trials = Trials(outside.paths.update_trial)
        self.changing = threading.RLock()
        self._on = self._begun = False

    def on(self) -> bool:
        """Whether a generation that is in effect has still to show that it is healthy."""
        return self._on

    def announce(self) -> None:
        """What is staged is about to be switched to: note what works until then."""
        self._trials.announce(self._update.journal.generation, self._health.works() if self._health.seconds else ())

    def begin(self, generation: Generation, old: Generation | None) -> None:
        """Bring into effect what was switched to and begin its trial, or go back. The turn is held.

        Raises:
            VmgateError: it went back.
        """
        try:
            self._require_tries_left(generation)
            self._settling.settle(generation, old)
        except VmgateError as error:
            self._update.roll_back(remember=speaks_against(error))
            self.forget()
            raise
        self._begun = False
        self._on = True

    def _require_tries_left(self, generation: Generation) -> None:
        begun = self._trials.begin(generation.number).begun
        if begun > MOST_TRIES:
            raise Unhealthy(
                f"generation {generation.number} was left",
                cause=f"its trial was begun {begun - 1} times, and the agent or the machine ended before it did",
                remedy="see the logs of these boots; wait for a corrected release",
            )

    def look(self) -> None:
        """Look whether the generation on trial is healthy, and confirm it; when its time is over, go back.

        Raises:
            Unhealthy: it went back.
            ContentError: the state could not be read or written; the trial goes on.
        """
        with self.changing:
            generation = self._update.active()
            if not self._on or generation is None or self._update.journal.state != "switched":
                self._on = False
                return
            if not self._begun:
                # Its time runs from the first look: a boot may be long.
                self._health.begin()
                self._begun = True
            ill = self._health.ill(generation, self._trials.of(generation.number)) if self._health.seconds else ""
            if not ill:
                with self._turn:
                    self.confirm(generation)
            elif self._health.over:
                self._leave(generation, ill)

    def wait(self) -> None:
        """Look until the trial is over. Raises as ``look`` does."""
        while self.on():
            self.look()
            if self.on():
                time.sleep(LOOK_SECONDS)

    def confirm(self, generation: Generation) -> None:
        """The generation stays, which forbids the way back: its keys follow."""
        self._update.confirm()
        self.forget()
        self._settling.follow(generation.platform)

    def forget(self) -> None:
        """The trial is over, whatever it came to."""
        self._on = False
        self._trials.end()

    def _leave(self, generation: Generation, ill: str) -> None:
        details = {"cause": ill, "generation": str(generation.number)}
        self._audit.append("update-health", "failed", "host", "agent", **details)
        with self._turn:
            back = self._update.roll_back()
            self.forget()
            if back is not None and self._settling.fits_boot(back.platform, None):
                self._settling.measure(back.platform, generation.platform)
        raise Unhealthy(
            f"generation {generation.number} was left",
            cause=f"{ill}, until the health check's time was over",
            remedy="wait for a corrected release; `vmgate update history` shows what is active",
        )
