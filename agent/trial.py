# SPDX-License-Identifier: Apache-2.0
"""The health check of a generation that was switched to: what worked before must work now, before a deadline.

1. libvirt answers, if it did before.
2. Each VM that ran before and is still defined would be let start by the gate, now. None is started for it.
3. The administrator's programs in ``update-health.d`` agree (``agent.hooks``).

It is looked again and again until all of it is so or the time is over. What follows is ``agent.updates``' business.
Nobody may hold the turn that ``agent.launch`` describes while this asks libvirt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

from agent.gate import Gate
from agent.hooks import Hooks
from agent.outside import Outside
from agent.plan import Plan
from agent.platform import Platform
from agent.settling import HOSTS_OWN, STILL_RUNNING, require_sound
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.trial import UpdateTrial
from measure.launches import running

EVENT = "update-health"
ANSWER_SECONDS = 10.0
"""How long libvirt may take for an answer: one that never comes must not keep the trial from its end."""


class HealthCheck:
    """Looks whether a generation is healthy.

    Args:
        outside, gate, plan, platform, hooks: of this host.
        turn: held while the gate is asked, see ``agent.launch``.
        seconds: until the time of a trial is over; 0 for no health check.
        clock: seconds since anything, which no change of the wall clock moves.
    """

    def __init__(
        self,
        outside: Outside,
        gate: Gate,
        plan: Plan,
        platform: Platform,
        hooks: Hooks,
        turn: AbstractContextManager[bool],
        seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hypervisor = outside.hypervisor
        self._gate = gate
        self._plan = plan
        self._platform = platform
        self._hooks = hooks
        self._turn = turn
        self.seconds = seconds
        self._clock = clock
        self._ends = 0.0

    def works(self) -> Iterator[str]:
        """What works now; see ``UpdateTrial``."""
        if self._answers():
            yield "libvirt"
        for name in running(self._platform.records()):
            yield f"vm/{name}"

    def begin(self) -> None:
        """The time runs from now."""
        self._ends = self._clock() + self.seconds

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._ends

    def ill(self, generation: Generation, trial: UpdateTrial) -> str:
        """The first thing that does not work and should; empty where all of it does."""
        if "libvirt" in trial.worked and not self._answers():
            return "libvirt does not answer"
        names = (name.removeprefix("vm/") for name in trial.worked if name.startswith("vm/"))
        try:
            for name in names:
                self._require_startable(generation, name)
            values = {"VMGATE_RELEASES": ", ".join(f"{r.channel} {r.number}" for r in generation.parsed())}
            self._hooks.run(EVENT, "agent", values)
        except VmgateError as error:
            return error.cause
        return ""

    def _require_startable(self, generation: Generation, name: str) -> None:
        with self._turn:
            vm = self._plan.find(generation, name)
            # One that no release defines any more was taken away on purpose.
            if vm is not None:
                judgement = self._gate.judge(name, vm.xml.encode(), generation)
                require_sound(judgement.verdict, STILL_RUNNING | HOSTS_OWN)

    def _answers(self) -> bool:
        """Whether libvirt answers in time. It is asked in a thread, which stays behind if it does not."""
        answered = threading.Event()

        def ask() -> None:
            with suppress(VmgateError):
                self._hypervisor.connect()
                answered.set()

        threading.Thread(target=ask, daemon=True).start()
        return answered.wait(ANSWER_SECONDS)
