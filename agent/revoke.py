# SPDX-License-Identifier: Apache-2.0
"""Ends what was taken back while it runs: a word to its user, a deadline, then what the signed policy says.

The deadline counts from the first look that saw the cause, in the kernel's time since boot: nobody puts it off by
setting the clock or by restarting the agent. What was suspended and is resumed is suspended again. This module does
not find out what is to be done (``agent.revocation`` does), and starts are refused by the gate.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.audit import AuditTrail
from agent.revocation import Order
from content import durable
from content.errors import Missing, storage
from documents.errors import VmgateError

log = logging.getLogger(__name__)

MAX_NOTE = 100
OFF = ("off", "undefined", "crashed")


class Machines(Protocol):
    """What is needed of libvirt (``hypervisor.libvirt.Hypervisor``)."""

    def state(self, name: str) -> str:
        """Of a domain."""

    def suspend(self, name: str) -> None:
        """Stop its processors."""

    def kill(self, name: str) -> None:
        """Switch it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What acts, besides libvirt.

    Attributes:
        announce: tells people.
        drop: drops a VM's keys from memory.
        shred: removes a VM's wrapped keys.
    """

    announce: Callable[[str], None]
    drop: Callable[[str], None]
    shred: Callable[[str], None]


def since_boot() -> float:
    """Seconds since the boot, sleep counted (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Revoker:
    """Looks now and then.

    Args:
        folder: remembers since when; does not outlive the boot, as running VMs do not.
        machines: libvirt.
        orders: gives cause and order for each VM that was taken back and that runs or has keys here.
        hands: what acts besides.
        audit: recorded before and after.
        now: gives seconds that only go forward.
    """

    def __init__(
        self,
        folder: Path,
        machines: Machines,
        orders: Callable[[], Mapping[str, tuple[str, Order]]],
        hands: Hands,
        audit: AuditTrail,
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._folder = folder
        self._machines = machines
        self._orders = orders
        self._hands = hands
        self._audit = audit
        self._now = now
        self._known: set[str] = set()
        self._failed: set[str] = set()
        self._done: set[str] = set()

    def look(self) -> None:
        """Do what is due. Whatever fails is told once and tried again at the next look."""
        try:
            orders = self._orders()
            # Of an earlier agent of this boot, too.
            self._known |= self._noted()
            for name in self._known - set(orders):
                durable.remove(self._folder / name)
            self._known = set(orders)
            self._done &= self._known
        except VmgateError as error:
            log.warning("what was taken back was not looked at: %s", error)
            return
        for name, (cause, order) in orders.items():
            try:
                self._follow(name, cause, order)
            except VmgateError as error:
                self._fail(name, cause, order, error)
            else:
                self._failed.discard(name)

    def _follow(self, name: str, cause: str, order: Order) -> None:
        since = self._since(name)
        if since is None:
            since = self._now()
            durable.make_directory(self._folder)
            durable.write_file(self._folder / name, f"{int(since)}\n".encode())
            self._tell("started", name, cause, order)
            self._hands.announce(order.message)
        if self._now() < since + order.seconds:
            return
        state = self._machines.state(name)
        stands = state in OFF or (state == "paused" and order.act == "suspend")
        if stands and name in self._done:
            return
        if state not in OFF:
            (self._machines.kill if order.act == "kill" else self._machines.suspend)(name)
        if order.drop:
            self._hands.drop(name)
        if order.shred:
            self._hands.shred(name)
        self._done.add(name)
        self._tell("done", name, cause, order)

    def _noted(self) -> set[str]:
        with storage("what was taken back was not listed", self._folder):
            return {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()

    def _since(self, name: str) -> float | None:
        """When the cause was first seen; long ago where that was noted and cannot be read."""
        try:
            noted = durable.read_file(self._folder / name, MAX_NOTE)
        except Missing:
            return None
        text = noted.decode("ascii", "replace").strip()
        return float(text) if text.isascii() and text.isdecimal() else 0.0

    def _fail(self, name: str, cause: str, order: Order, error: VmgateError) -> None:
        if name in self._failed:
            return
        self._failed.add(name)
        log.warning("%s was taken back and goes on: %s", name, error)
        self._tell("failed", name, cause, order, why=error.cause)

    def _tell(self, outcome: str, name: str, cause: str, order: Order, **more: str) -> None:
        """Record it. Without room for the record it is done all the same: to let it run would be worse."""
        try:
            self._audit.append(
                "vm-revoke", outcome, name, "agent", answer=order.act, cause=cause, seconds=str(order.seconds), **more
            )
        except VmgateError as error:
            log.warning("that %s was taken back was not recorded: %s", name, error)
