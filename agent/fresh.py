# SPDX-License-Identifier: Apache-2.0
"""Fresh authentication: polkit asks whoever wants to change trust for an administrator's password, each time.

Only exit code 0 of pkcheck(1) is a yes. No polkit, no agent that could ask, no answer in time, a caller that has ended:
all are no. Root is not asked, for root could change polkit's mind. This module records nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.errors import NotFresh
from agent.peers import Peer

PKCHECK = Path("/usr/bin/pkcheck")
PREFIX = "org.vmgate."
SECONDS = 120
"""For somebody to type a password."""


class Polkit:
    """Asks polkit.

    Args:
        program: pkcheck.
        seconds: how long it may take.
    """

    def __init__(self, program: Path = PKCHECK, seconds: float = SECONDS) -> None:
        self._program = program
        self._seconds = seconds

    def prove(self, peer: Peer, action: str) -> None:
        """Let the caller prove who it is.

        Args:
            peer: the caller.
            action: the end of the action's name, such as ``roles``.

        Raises:
            NotFresh: it did not.
        """
        if not peer.started:
            raise _refused("the process that asked has ended")
        # With number, start and user named, polkit takes no other process for this one (CVE-2011-1485, CVE-2013-4288).
        process = f"{peer.pid},{peer.started},{peer.uid}"
        command = [str(self._program), "--action-id", PREFIX + action, "--process", process, "--allow-user-interaction"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, timeout=self._seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise _refused("nobody authenticated in time") from error
        except OSError as error:
            raise _refused(f"polkit was not asked: {self._program}: {error.strerror or error}") from error
        if done.returncode:
            raise _refused(f"polkit did not say yes to {PREFIX}{action}, pkcheck ended with {done.returncode}")


def _refused(cause: str) -> NotFresh:
    return NotFresh(
        "the request was refused", cause=cause, remedy="authenticate in a session with a polkit agent, or use sudo"
    )
