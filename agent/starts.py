# SPDX-License-Identifier: Apache-2.0
"""Which VMs are on their way up, so that nobody defines one meanwhile.

libvirt holds a VM's lock while it asks its hook. Who defines that VM then waits for the lock with libvirt's list of VMs
locked, which holds up all of libvirt, the gate's own questions included. This module asks libvirt nothing.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 120.0
"""After that a start that nobody saw the end of is none any more."""


class Starts:
    """Of one host's VMs."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._known = threading.Lock()
        self._begun: dict[str, float] = {}

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Have a VM for oneself, to define or to start it; whoever else wants to waits."""
        with self._known:
            lock = self._locks[name]
        with lock:
            yield

    def begin(self, name: str) -> None:
        """Libvirt's hook asks whether a VM may start."""
        self._begun[name] = time.monotonic()

    def end(self, name: str) -> None:
        """It runs, or is off again."""
        self._begun.pop(name, None)

    def on_its_way(self, name: str) -> bool:
        """Whether libvirt starts a VM now, whoever asked it to."""
        begun = self._begun.get(name)
        return begun is not None and time.monotonic() - begun < LONGEST_SECONDS
