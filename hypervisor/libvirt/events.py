# SPDX-License-Identifier: Apache-2.0
"""libvirt's events of domains, boiled down to "look again": what happened is read from libvirt, not from the event.

One thread turns libvirt's event loop for the whole process. However many events come, the listener is told by setting
one flag, so that a flood of them costs nothing but a look. This module looks at no domain.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any

import libvirt

log = logging.getLogger(__name__)

WATCHED = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
)
"""What may make a domain another one than was started; what has no event is found by looking now and then."""


class Events:
    """Sets a flag when a domain changed.

    Args:
        uri: libvirt's connection URI.
        changed: the flag.
    """

    def __init__(self, uri: str, changed: threading.Event) -> None:
        self._uri = uri
        self._changed = changed
        self._held: Any = None

    def listen(self) -> bool:
        """Listen, or go on listening; call it now and then, since libvirtd may be restarted. Returns whether it does.

        Where it fails, the flag stays as it is, and whoever looks now and then finds what was missed.
        """
        if self._held is not None and self._alive():
            return True
        _turn_loop()
        try:
            self._held = libvirt.open(self._uri)
            for number in WATCHED:
                self._held.domainEventRegisterAny(None, number, self._tell, None)
        except libvirt.libvirtError as error:
            log.warning("libvirt's events are not heard: %s", error)
            self.close()
            return False
        # What changed while nobody listened.
        self._changed.set()
        return True

    def close(self) -> None:
        """Listen no more."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(libvirt.libvirtError):
                held.close()

    def _alive(self) -> bool:
        with suppress(libvirt.libvirtError):
            return bool(self._held.isAlive())
        return False

    def _tell(self, *_: object) -> None:
        self._changed.set()


@cache
def _turn_loop() -> None:
    """Libvirt's own loop, once in a process; connections that are opened from now on hear events."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_turn, name="libvirt-events", daemon=True).start()


def _turn() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            # Nothing that the loop could mend; it must not turn without a pause.
            time.sleep(1)
