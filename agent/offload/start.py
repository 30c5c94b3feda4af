# SPDX-License-Identifier: Apache-2.0
"""The off-load of one host: made from its settings, run in a thread, told in its status. Sends nothing itself."""

from __future__ import annotations

import os
import threading

from agent.audit import AuditTrail
from agent.offload.channel import connect
from agent.offload.worker import Offload
from agent.outside import Outside
from documents.canonical import Json


def offload(outside: Outside) -> Offload | None:
    """The worker of a host; None where its settings name no server."""
    settings = outside.settings.audit
    if not settings.server:
        return None
    paths, hostname = outside.paths, outside.settings.host or os.uname().nodename
    return Offload(settings, outside.audit, paths.audit, paths.audit_sent, hostname, outside.clock, connect)


class Sending:
    """A worker that runs; without one there is nothing to run."""

    def __init__(self, worker: Offload | None) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=worker.run, args=(self._stop,), daemon=True) if worker else None
        if self._thread is not None:
            self._thread.start()

    def end(self) -> None:
        """Send what is there and end. A server that hangs does not keep the agent from ending."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)


END_SECONDS = 5


def audit_status(audit: AuditTrail, worker: Offload | None, *, refusals: bool = False) -> dict[str, Json]:
    """What the status says of the trail, of its way to the log server, and of many refusals."""
    failure = f"; NOTHING CAN BE RECORDED: {audit.failure}" if audit.failure else ""
    return {
        "audit": f"{audit.head.sequence} records{failure}",
        "audit_server": worker.told() if worker else "none: the trail stays on this host",
        "audit_refusals": refusals,
        "audit_alarm": bool(audit.failure) or (worker is not None and worker.alarm()),
    }
