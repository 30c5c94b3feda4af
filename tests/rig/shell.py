# SPDX-License-Identifier: Apache-2.0
"""`make rig-shell`: a fresh host for a person to look around in, and nothing left of it afterwards."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rig.image import build
from rig.machine import Machine

LEAVE = b"\x1d"
"""Ctrl-]"""
WELCOME = """\
This is root on a host that was made for you: Debian 12, Secure Boot with keys of our own, a verified read-only root, a
software TPM, IMA, AppArmor, libvirt behind vmgate. It is emulated, so it is slow. It reaches no network.

    not set up yet      libvirtd does not start before `vmgate init --anchor FILE` was done
    look                systemctl status vmgate libvirtd, tpm2_pcrread sha256, dmsetup table, aa-status,
                        cat /sys/kernel/security/ima/ascii_runtime_measurements
    outside             {folder}: serial.log is the boot's console, disk.qcow2 the disk
                        {tree}: the root as a folder
    leave               Ctrl-] ends the host and removes it
"""


def main() -> int:
    """Boot a host and connect it with the terminal."""
    if os.geteuid() != 0:
        print("rig: building and booting a host needs root")
        return 1
    image = build()
    with Machine(image) as machine:
        print("rig: booting, some 40 seconds on an idle machine", flush=True)
        began = time.monotonic()
        machine.boot()
        machine.do("systemctl start rig-shell.service")
        print(f"rig: up after {time.monotonic() - began:.0f} s\n\n" + WELCOME.format(
            folder=machine.folder, tree=image.tree
        ), flush=True)  # fmt: skip
        size = shutil.get_terminal_size()
        machine.do(f"stty -F /dev/ttyS1 rows {size.lines} cols {size.columns}")
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(machine.shell_socket))
            port.sendall(b"\n")
            with _raw_terminal():
                _connect(port)
    print("\r\nrig: the host is gone")
    return 0


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Let every key through, where there is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _connect(port: socket.socket) -> None:
    """Carry bytes both ways until somebody leaves."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([keyboard, port], [], [])
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            before, leave, _ = typed.partition(LEAVE)
            port.sendall(before)
            if leave or not typed:
                return
        if port in ready:
            shown = port.recv(4096)
            if not shown:
                return
            os.write(screen, shown)


if __name__ == "__main__":
    sys.exit(main())
