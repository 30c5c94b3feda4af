# SPDX-License-Identifier: Apache-2.0
"""Work that may wait a little and then is done once for all that asked for it meanwhile.

The head of the audit trail is signed this way: the records are durable at once, and a start does not wait for the
signature. This module does not know what the work is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Deferred:
    """One kind of work.

    Args:
        work: done in a thread of its own; it raises nothing.
        seconds: from the first request until it is done.
    """

    def __init__(self, work: Callable[[], None], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._timer: threading.Timer | None = None

    def soon(self) -> None:
        """Have it done in ``seconds``, unless it is to be done earlier anyway."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._seconds, self._due)
                self._timer.daemon = True
                self._timer.start()

    def now(self) -> None:
        """Do it now, and not again for what was asked so far."""
        self.cancel()
        self._do()

    def cancel(self) -> None:
        """Do not do it for what was asked so far."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        with self._lock:
            # Cancelled meanwhile, or asked for again: the later timer does it.
            if self._timer is not threading.current_thread():
                return
            self._timer = None
        self._do()

    def _do(self) -> None:
        # One after the other: the later one has seen more.
        with self._working:
            self._work()
