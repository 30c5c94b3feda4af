# SPDX-License-Identifier: Apache-2.0
"""libvirt, and the only package that imports it.

Calls block; they may come from several threads. Nothing is decided here: the gate sits in libvirt's hook.
"""

from hypervisor.libvirt.connection import SYSTEM, UNDEFINED, Domain, Hypervisor
from hypervisor.libvirt.live import Live

__all__ = ["SYSTEM", "UNDEFINED", "Domain", "Hypervisor", "Live"]
