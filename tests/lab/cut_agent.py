# SPDX-License-Identifier: Apache-2.0
"""Runs the agent so that it dies at one step of a VM's start, or with a clock that is wrong.

``python -P cut_agent.py STEP|clock=SECONDS VMGATE agent run ...`` is ``vmgate agent run ...`` with that one difference.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STEPS = ("judged", "recorded", "measured", "variables", "noted", "given", "told")
"""In the order of a start: after the verdict is kept; after the record; after the TPM was told; after the firmware's
variables were written; after what runs was noted; after libvirt has the key; when libvirt says that QEMU runs."""


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Die right after a method was called."""
    plain = getattr(owner, name)

    def cut(*arguments: Any, **named: Any) -> Any:
        result = plain(*arguments, **named)
        if when(*arguments):
            _die()
        return result

    setattr(owner, name, cut)


def arm(step: str) -> None:
    """Let the agent die at a step; see ``STEPS``."""
    from agent.audit import AuditTrail
    from agent.launch import Launcher
    from agent.launched import LaunchedDomains
    from agent.platform import Platform
    from agent.vm_secrets import VmSecrets
    from content import durable

    match step:
        case "judged":
            _after(Launcher, "_keep")
        case "recorded":
            _after(AuditTrail, "append", lambda _self, event, outcome, *_: (event, outcome) == ("vm-start", "started"))
        case "measured":
            _after(Platform, "note", lambda _self, event, *_: event == "vm-start")
        case "variables":
            _after(durable, "write_file", lambda path, *_: path.name == "vars.fd")
        case "noted":
            _after(LaunchedDomains, "note")
        case "given":
            _after(VmSecrets, "give")
        case "told":
            Launcher.started = _die  # type: ignore[assignment]
        case _:
            raise ValueError(step)


def shift(seconds: int) -> None:
    """Let the agent's clock be wrong by so much."""
    from vmgate import wiring

    plain = wiring._clock
    wiring._clock = lambda: max(0, plain() + seconds)


def main() -> None:
    """See above."""
    what, _, *arguments = sys.argv[1:]
    if what.startswith("clock="):
        shift(int(what.partition("=")[2]))
    else:
        arm(what)
    from vmgate.main import main as run

    sys.argv = ["vmgate", *arguments]
    sys.exit(run())


if __name__ == "__main__":
    main()
