# SPDX-License-Identifier: Apache-2.0
"""A rig's host as a running machine: QEMU and swtpm by their own ids, a folder of its own, commands as root.

Its disk is an overlay, so the image is never written to. Whatever cannot get better ends the wait at once: QEMU has
gone, the firmware refused the kernel image, the kernel panicked. Emulation only; this shows nothing about speed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rig import disk
from rig.channel import Channel, Done
from rig.image import Image
from rig.machine_tpm import MachineTpm
from rig.processes import start, stop
from rig.qmp import Qmp

HOPELESS = re.compile(
    r"No bootable option|Access Denied|Security Violation|Kernel panic|emergency mode|You are in rescue mode"
)
BOOT_SECONDS = 240.0
"""Hard limit of a boot; five times what it takes on an idle machine."""
WEB_ADDRESS = "10.0.2.100"
"""Where the host finds the web server that is given to its machine, on port 80."""


class HostFailed(Exception):
    """The host did not come up, or has gone: why, and the end of what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a machine is made of besides its disk; a snapshot only fits the same.

    Attributes:
        cpus: virtual processors. The firmware's measurement of itself (PCR 0) differs with their number.
        memory_mib: memory.
        variables: firmware variables to start with; those of the image if None.
        sticks: further disks that cannot be written, in this order: /dev/vdb, /dev/vdc, ...
    """

    cpus: int = 2
    memory_mib: int = 2048
    variables: Path | None = None
    sticks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A machine that was stopped: disk, firmware variables, TPM and memory below a folder.

    All machines restored from it share keys, TPM seeds and the TPM's clock: never take them for different hosts.
    """

    folder: Path
    image: Image
    hardware: Hardware


class Machine:
    """One machine, switched off at first; use it as a context manager, which ends it.

    Args:
        image: what its disk holds.
        hardware: what it is made of.
        web: port on this machine's loopback that the host reaches as http://10.0.2.100; nothing else is reached.
    """

    def __init__(self, image: Image, hardware: Hardware | None = None, web: int | None = None) -> None:
        self.image = image
        self.hardware = hardware or Hardware()
        self._web = web
        # Paths of sockets have at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="vmgate-rig-", dir="/var/tmp"))
        self.tpm = MachineTpm(self.folder, image.tpm_ca)
        self._qemu: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._channel: Channel | None = None
        self._new = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def console(self) -> str:
        """What the machine printed on its first serial port since it was switched on."""
        log = self.folder / "serial.log"
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def shell_socket(self) -> Path:
        """The second serial port, on which ``rig-shell.service`` gives a person a shell."""
        return self.folder / "shell.sock"

    def boot(self) -> Self:
        """Switch it on and wait until its services are up, or failed to start.

        Raises:
            HostFailed: it does not come up.
        """
        self.switch_on()
        self.wait_until_up()
        return self

    def wait_until_up(self) -> None:
        """Wait until its services are up, or failed to start; raises as ``boot`` does."""
        self.run("systemctl is-system-running --wait", BOOT_SECONDS)

    def adopt(self) -> None:
        """Take disk, variables and TPM as they lie in the folder; else they are made when it is first switched on."""
        self._new = False

    def switch_on(self) -> None:
        """Switch it on and wait for nothing."""
        if self._new:
            self._manufacture()
        self._start([])

    def switch_off(self) -> None:
        """Cut its power: disk and TPM keep what they have."""
        for connection in (self._channel, self._qmp):
            if connection is not None:
                connection.close()
        self._channel = self._qmp = None
        stop(self._qemu)
        self._qemu = None
        self.tpm.stop()

    def power_cycle(self) -> Self:
        """Off and on again; raises as ``boot`` does."""
        self.switch_off()
        return self.boot()

    def close(self) -> None:
        """End it and remove its folder."""
        self.switch_off()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command: str, seconds: float = 60.0) -> Done:
        """Run a shell command on the host as root.

        Raises:
            HostFailed: the host has gone.
            ChannelDead: it did not answer.
        """
        code, output = self._connected().run(command, seconds)
        return Done(code, output.decode(errors="replace"))

    def do(self, command: str, seconds: float = 60.0) -> str:
        """Run a command that must work; returns what it printed.

        Raises:
            HostFailed: it exited other than 0.
        """
        code, output = self.run(command, seconds)
        if code:
            raise HostFailed(f"{command} exited {code}:\n{output}")
        return output

    def read(self, path: str) -> bytes:
        """The content of a file of the host."""
        code, output = self._connected().run(f"cat '{path}'", 60.0)
        if code:
            raise HostFailed(f"{path} was not read: {output.decode(errors='replace')}")
        return output

    def write(self, path: str, data: bytes) -> None:
        """Make a file on the host; up to a few megabytes, a stick is quicker for more."""
        self._connected().write(path, data, 60.0)

    def wait_for_end(self, seconds: float = BOOT_SECONDS) -> str:
        """Wait until the host cannot get better; returns why.

        Raises:
            HostFailed: it was not stopped in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = HOPELESS.search(self.console)
            if found:
                return found[0]
            if self._qemu is None or self._qemu.poll() is not None:
                return "QEMU ended"
            time.sleep(0.1)
        raise HostFailed(f"the host was not stopped: {self.console[-2000:]}")

    def snapshot(self, folder: Path) -> Snapshot:
        """Stop the machine and keep it in a folder, which must not exist. This machine is switched off then."""
        qmp = self._qmp
        if qmp is None:
            raise HostFailed("the machine is off")
        folder.mkdir(parents=True)
        qmp.execute("stop")
        qmp.execute("migrate", uri=f"exec:cat >{folder}/memory")
        qmp.wait_for_migration()
        qmp.execute("quit")
        if self._qemu is not None:
            self._qemu.wait(BOOT_SECONDS)
        self.switch_off()
        for name in ("disk.qcow2", "vars.fd", "tpm"):
            (self.folder / name).rename(folder / name)
        self._new = True
        return Snapshot(folder=folder, image=self.image, hardware=self.hardware)

    @classmethod
    def restored(cls, snapshot: Snapshot, web: int | None = None) -> Self:
        """A machine that goes on where a snapshot was made, with the right time."""
        machine = cls(snapshot.image, snapshot.hardware, web)
        try:
            disk.overlay(snapshot.folder / "disk.qcow2", "qcow2", machine.folder / "disk.qcow2")
            shutil.copy(snapshot.folder / "vars.fd", machine.folder)
            shutil.copytree(snapshot.folder / "tpm", machine.tpm.state)
            machine._new = False
            machine._start(["-incoming", "defer"])
            machine._continue(snapshot.folder / "memory")
        except BaseException:
            machine.close()
            raise
        return machine

    def _continue(self, memory: Path) -> None:
        if self._qmp is None:
            raise HostFailed("the machine is off")
        self._qmp.execute("migrate-incoming", uri=f"exec:cat {memory}")
        self._qmp.wait_for_migration()
        self._qmp.execute("cont")
        self.do(f"date -s @{time.time():.3f}")

    def _manufacture(self) -> None:
        disk.overlay(self.image.disk, self.image.disk_format, self.folder / "disk.qcow2")
        shutil.copy(self.hardware.variables or self.image.variables, self.folder / "vars.fd")
        self.tpm.manufacture()
        self._new = False

    def _start(self, more: Sequence[str]) -> None:
        (self.folder / "serial.log").unlink(missing_ok=True)
        self.tpm.start()
        self._qemu = start([*self._command(), *more], self.folder / "qemu.log")
        deadline = time.monotonic() + 20
        while not all((self.folder / name).exists() for name in ("qmp.sock", "channel.sock", "shell.sock")):
            self._require_alive()
            if time.monotonic() > deadline:
                raise HostFailed("QEMU opened no sockets")
            time.sleep(0.01)
        self._qmp = Qmp(self.folder / "qmp.sock")
        self._channel = Channel(self.folder / "channel.sock", self._require_alive)

    def _command(self) -> list[str]:
        hardware, folder = self.hardware, self.folder
        for name in ("qmp.sock", "channel.sock", "shell.sock"):
            (folder / name).unlink(missing_ok=True)
        forward = "" if self._web is None else f",guestfwd=tcp:{WEB_ADDRESS}:80-cmd:busybox nc 127.0.0.1 {self._web}"
        sticks = [
            part
            for number, path in enumerate(hardware.sticks, 1)
            for part in (
                "-drive", f"if=none,id=d{number},file={path},format=raw,readonly=on",
                "-device", f"virtio-blk-pci,drive=d{number}",
            )
        ]  # fmt: skip
        return [
            "qemu-system-x86_64", "-machine", "pc-q35-7.2,smm=on", "-accel", "tcg,thread=multi,tb-size=1024",
            "-cpu", "max", "-smp", str(hardware.cpus), "-m", str(hardware.memory_mib),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={self.image.firmware}",
            "-drive", f"if=pflash,format=raw,unit=1,file={folder}/vars.fd",
            "-drive", f"if=none,id=d0,file={folder}/disk.qcow2,format=qcow2,cache=unsafe",
            "-device", "virtio-blk-pci,drive=d0,bootindex=0",
            "-chardev", f"socket,id=tpm,path={self.tpm.socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm0",
            "-serial", f"file:{folder}/serial.log",
            "-serial", f"unix:{self.shell_socket},server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=channel,path={folder}/channel.sock,server=on,wait=off",
            "-device", "virtserialport,chardev=channel,name=rig",
            "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
            "-netdev", f"user,id=net0,restrict=on,ipv6=off{forward}",
            "-device", "virtio-net-pci,netdev=net0,romfile=",
            *sticks,
            "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off",
        ]  # fmt: skip

    def _connected(self) -> Channel:
        if self._channel is None:
            raise HostFailed("the machine is off")
        return self._channel

    def _require_alive(self) -> None:
        found = HOPELESS.search(self.console)
        if found:
            raise HostFailed(f"{found[0]}:\n{self.console[-3000:]}")
        if self._qemu is None or self._qemu.poll() is not None:
            log = (self.folder / "qemu.log").read_text(errors="replace")
            raise HostFailed(f"QEMU ended: {log[-1000:]}\n{self.console[-2000:]}")
