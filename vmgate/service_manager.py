# SPDX-License-Identifier: Apache-2.0
"""What systemd and the agent say to each other: sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3).

Where no service manager is, nothing is said and nothing is given. This module knows nothing of hosts and VMs.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from agent.errors import NotReady
from documents.errors import VmgateError
from vmgate.errors import SocketWrong

FIRST = 3
"""The first descriptor that is handed over (SD_LISTEN_FDS_START)."""


def tell(state: str) -> None:
    """Tell systemd how far the agent is; nothing where no service manager listens.

    Raises:
        NotReady: the one that listens cannot be told, and would end the agent as too slow.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            # A leading @ stands for the abstract name space (unix(7)).
            line.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        raise NotReady(
            "the service manager was not told", cause=f"{address}: {error.strerror or error}", remedy="look at the unit"
        ) from error


def given_socket() -> socket.socket | None:
    """The socket that systemd listened on for this process, and goes on with when it ends; None where it gave none.

    Raises:
        SocketWrong: it gave more than one, or something else than a listening Unix socket.
    """
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or count in {"", "0"}:
        return None
    if count != "1":
        raise _wrong(f"{count} sockets were given")
    try:
        given = socket.socket(fileno=FIRST)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise _wrong(error.strerror or str(error)) from error
    given.set_inheritable(False)
    if given.family != socket.AF_UNIX or given.type != socket.SOCK_STREAM or not listens:
        given.close()
        raise _wrong("it is not a Unix stream socket that listens")
    return given


class Watchdog:
    """Tells systemd that the agent works, as often as systemd asked for it, and only after finding that it does.

    Args:
        check: raises ``VmgateError`` if the agent does not work.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._every = _watchdog_seconds() / 3
        self._next = 0.0

    def look(self) -> str:
        """Look if it is time to, and tell systemd; returns why it was not told, or nothing.

        The caller is the agent's main loop: whoever does not come here is not vouched for. Where nobody is told for
        the time that the unit says, systemd ends the agent and starts it anew.
        """
        if not self._every or time.monotonic() < self._next:
            return ""
        try:
            self._check()
            tell("WATCHDOG=1")
        except VmgateError as error:
            return error.line()
        self._next = time.monotonic() + self._every
        return ""


def _watchdog_seconds() -> float:
    """Within which systemd wants to hear from this process; 0 where it does not."""
    wanted, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or process not in {"", str(os.getpid())}:
        return 0.0
    return int(wanted) / 1_000_000


def _wrong(cause: str) -> SocketWrong:
    return SocketWrong("the agent does not listen", cause=cause, remedy="use the units that vmgate ships")
