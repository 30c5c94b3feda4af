# SPDX-License-Identifier: Apache-2.0
"""What libvirt's exceptions are to a user of vmgate. This module asks libvirt nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from hypervisor.errors import DomainMissing, HypervisorError, KeyAbsent, LibvirtAway, StartFailed, StartRefused

# virCommandWait's words about a hook that failed; its standard error follows.
_HOOK_LINE = re.compile(r"unexpected exit status \d+: (.*)", re.DOTALL)


@contextmanager
def translated(what: str, otherwise: type[HypervisorError] = HypervisorError) -> Iterator[None]:
    """Turn libvirt's exception into this package's."""
    try:
        yield
    except libvirt.libvirtError as error:
        cause, code = words(error), error.get_error_code()
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            raise DomainMissing(what, cause=cause, remedy="see `vmgate vm list`") from error
        if code in (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_NO_CONNECT):
            raise LibvirtAway(what, cause=cause, remedy="see that libvirtd runs, then try again") from error
        raise otherwise(what, cause=cause, remedy="look at libvirt's log") from error


def start_error(name: str, error: StartFailed) -> HypervisorError:
    """Why a domain did not start, more closely where libvirt said so."""
    origin = error.__cause__
    code = origin.get_error_code() if isinstance(origin, libvirt.libvirtError) else None
    if code == libvirt.VIR_ERR_HOOK_SCRIPT_FAILED:
        found = _HOOK_LINE.search(error.cause)
        said = found.group(1) if found else error.cause
        return StartRefused(error.what, said=said, remedy=f"`vmgate vm why {name}` tells which check")
    if code == libvirt.VIR_ERR_NO_SECRET:
        return KeyAbsent(error.what, cause=error.cause, remedy=f"start it through the gate: `vmgate vm start {name}`")
    return error


def words(error: libvirt.libvirtError) -> str:
    """What libvirt said, in one line."""
    return " ".join(str(error.get_error_message() or error).split())
