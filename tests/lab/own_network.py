# SPDX-License-Identifier: Apache-2.0
"""A network namespace of the test's own, with a world behind it: frames of tests go nowhere else.

``/sys`` shows the namespace's devices, which libvirt needs. Call it where the mount namespace is the test's own already
(``lab.libvirt_host.enter_namespace``), and in one thread.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

OUTER, WORLD = "192.0.2.1", "192.0.2.2"
"""This host's address towards the world, and the world's."""

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2


@contextmanager
def own_network() -> Iterator[None]:
    """A namespace with loopback, and a device ``outside`` that leads to ``WORLD``."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        _check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount /sys")
        try:
            _make_world()
            yield
        finally:
            _check(_libc.umount2(b"/sys", _MNT_DETACH), "umount /sys")
            ip("netns", "delete", "world")
    finally:
        _check(_libc.setns(before, _CLONE_NEWNET), "setns")
        os.close(before)


def _make_world() -> None:
    ip("link", "set", "lo", "up")
    ip("netns", "add", "world")
    ip("link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", "world")
    ip("address", "add", f"{OUTER}/24", "dev", "outside")
    ip("link", "set", "outside", "up")
    ip("-n", "world", "address", "add", f"{WORLD}/24", "dev", "inside")
    ip("-n", "world", "link", "set", "inside", "up")


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
