# SPDX-License-Identifier: Apache-2.0
"""QEMU's control socket (QEMU docs, "QEMU Machine Protocol"): just what the rig says to it."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from rig.programs import RigBroken

SECONDS = 60.0


class Qmp:
    """One connection.

    Args:
        path: of the Unix socket, on which QEMU listens already.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command; returns its answer. Events are not listened to.

        Raises:
            RigBroken: QEMU refused it or has gone.
        """
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise RigBroken(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise RigBroken(f"QEMU went away at {command}")

    def wait_for_migration(self) -> None:
        """Wait until the machine's state was written, or read.

        Raises:
            RigBroken: it was not.
        """
        deadline = time.monotonic() + SECONDS
        while (state := self.execute("query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > deadline:
                raise RigBroken(f"the machine's state was not moved: {state}")
            time.sleep(0.02)

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
