# SPDX-License-Identifier: Apache-2.0
"""A call of libvirt's with a deadline, which libvirt itself has none of.

libvirt may wait for the hook that waits for this call: only the hook's end undoes that knot, so the hook gets an
answer. This module does not know what is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from agent.vm_errors import LibvirtLate
from documents.errors import VmgateError

Result = TypeVar("Result")


def within(
    seconds: float, call: Callable[[], Result], what: str, cause: str, undo: Callable[[], None] = lambda: None
) -> Result:
    """Make a call, and wait for it no longer than that.

    Args:
        seconds: for the call.
        call: goes on by itself when it is late.
        what: was not done if it is.
        cause: why; the seconds follow.
        undo: undoes what a late call does after all.

    Raises:
        LibvirtLate: it takes too long.
        VmgateError: it failed.
    """
    done: list[Result] = []
    failed: list[VmgateError] = []
    late = threading.Event()

    def run() -> None:
        try:
            done.append(call())
            if late.is_set():
                undo()
        except VmgateError as error:
            failed.append(error)

    worker = threading.Thread(target=run, name="libvirt call", daemon=True)
    worker.start()
    worker.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        late.set()
        raise LibvirtLate(
            what, cause=f"{cause} in {seconds:g} seconds", remedy="see that libvirtd answers, then try again"
        )
    return done[0]
