# SPDX-License-Identifier: Apache-2.0
"""The thread that looks: when libvirt says that something changed, and now and then because it may have missed it.

However many events come, there is a pause between two looks. This module does not know what is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

SWEEP_SECONDS = 5.0
"""Between looks when nothing is heard."""

PAUSE_SECONDS = 0.25
"""Between looks however much is heard."""


class Listening(Protocol):
    """What hears libvirt's events (``hypervisor.libvirt.events``)."""

    def listen(self) -> bool:
        """Listen, or go on listening."""

    def close(self) -> None:
        """Listen no more."""


class Watching:
    """Looks until ``end``.

    Args:
        look: raises nothing.
        events: makes what sets a flag when a domain changed.
        sweep: seconds between looks when nothing is heard.
    """

    def __init__(
        self,
        look: Callable[[], None],
        events: Callable[[threading.Event], Listening],
        sweep: float = SWEEP_SECONDS,
    ) -> None:
        self._look = look
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._events = events(self._changed)
        self._sweep = sweep
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more; a look that waits for libvirt is not waited for."""
        self._ended.set()
        self._changed.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._events.listen()
            self._changed.wait(self._sweep)
            self._changed.clear()
            if self._ended.is_set():
                break
            self._look()
            self._ended.wait(PAUSE_SECONDS)
        self._events.close()
