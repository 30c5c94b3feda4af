# SPDX-License-Identifier: Apache-2.0
"""A network namespace of the test's own, with a world behind it: frames of tests go nowhere else.

``/sys`` shows the namespace's devices, which libvirt needs; for that the process gets a mount namespace, too, and keeps
it. Call it in the main thread, before other threads and before ``lab.libvirt_host.running``.
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
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2


@contextmanager
def own_network() -> Iterator[None]:
    """A namespace with loopback, and a device ``outside`` that leads to ``WORLD``."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
        _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount /")
        _check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount /sys")
        # Says when it has a namespace of its own, which ends with it.
        world = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE)
        try:
            assert world.stdout is not None
            world.stdout.readline()
            _make_world(str(world.pid))
            yield
        finally:
            world.kill()
            world.communicate()
            _check(_libc.umount2(b"/sys", _MNT_DETACH), "umount /sys")
    finally:
        _check(_libc.setns(before, _CLONE_NEWNET), "setns")
        os.close(before)


def _make_world(process: str) -> None:
    ip("link", "set", "lo", "up")
    ip("link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", process)
    ip("address", "add", f"{OUTER}/24", "dev", "outside")
    ip("link", "set", "outside", "up")
    inside = ["nsenter", "--target", process, "--net", "ip"]
    for arguments in (["address", "add", f"{WORLD}/24", "dev", "inside"], ["link", "set", "inside", "up"]):
        subprocess.run([*inside, *arguments], check=True, capture_output=True)


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
