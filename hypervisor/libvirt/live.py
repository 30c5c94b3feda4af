# SPDX-License-Identifier: Apache-2.0
"""What runs, as libvirt has it at one moment: state, live XML and taints of each active domain.

libvirt answers about a domain only when no hook of it waits, so that nobody whom a hook waits for may ask here. This
module compares nothing (``agent.drift`` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import libvirt

MAX_TAINTS = 50
STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: "unknown",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "stopping",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One active domain.

    Attributes:
        name: its name.
        run: libvirt's number of this run.
        state: as ``Domain.state``.
        starting: QEMU is not yet let go for the first time.
        xml: as it runs; untrusted.
        taints: what libvirt says was done to it past its XML; untrusted.
    """

    name: str
    run: int
    state: str
    starting: bool
    xml: bytes
    taints: tuple[str, ...]


def active(connection: Any) -> tuple[Live, ...]:
    """All active domains; one that goes meanwhile is left out.

    Raises:
        libvirt.libvirtError: libvirt does not answer.
    """
    found = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            found.append(_live(domain))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise
    return tuple(found)


def _live(domain: Any) -> Live:
    state, reason = domain.state()
    return Live(
        name=domain.name(),
        run=int(domain.ID()),
        state=STATES.get(state, "unknown"),
        starting=(state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP),
        xml=str(domain.XMLDesc(0)).encode(),
        taints=tuple(domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING)[:MAX_TAINTS]),
    )
