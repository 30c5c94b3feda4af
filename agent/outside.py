# SPDX-License-Identifier: Apache-2.0
"""What a host gets from outside, made by ``vmgate.wiring``. This module makes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.audit import AuditTrail
from agent.paths import HostPaths
from agent.porter import Porter
from agent.porter_line import PorterLine
from agent.settings import Settings
from hypervisor.libvirt import Hypervisor
from keys.anchor import TrustAnchor
from measure.tpm import Tpm
from updater.client.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a host gets from outside.

    Attributes:
        paths: where its files are.
        settings: as read.
        anchor: trust anchor.
        tpm: open.
        hypervisor: connected, or connecting when asked.
        audit: its trail.
        clock: gives seconds since 1970 UTC.
        site: folder of vmgate's own packages.
        version: of this vmgate.
        boot: the kernel's boot id.
        porter: does what the agent's box may not allow.
        besides: the site that this host follows besides its publisher, if there is one.
    """

    paths: HostPaths
    settings: Settings
    anchor: TrustAnchor
    tpm: Tpm
    hypervisor: Hypervisor
    audit: AuditTrail
    clock: Callable[[], int]
    site: Path
    version: str
    boot: str
    porter: Porter | PorterLine
    besides: Site | None = None
