# SPDX-License-Identifier: Apache-2.0
"""A vmgate host for demo and tests: its own software TPM, agent, private libvirt and state.

Call it inside the namespace of ``lab.libvirt_host``. Only its own processes are ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from agent.audit import records
from agent.paths import HostPaths
from content.image_mount import is_mounted
from lab.audit_table import require_as_promised
from lab.libvirt_host import LibvirtHost
from lab.publisher import VMGATE
from lab.tpm import SoftwareTpm

READY = "vmgate agent: ready"
GUARD = 120
RUN = Path("/run/vmgate")


class Result:
    """What a command did."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.exit = done.returncode
        self.out = done.stdout
        self.err = done.stderr.strip()


class Host:
    """One host below ``folder``.

    Args:
        folder: absolute; QEMU's user must be able to enter it.
        libvirt: running, private.
    """

    def __init__(self, folder: Path, libvirt: LibvirtHost) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True, mode=0o755)
        self.libvirt = libvirt
        self.tpm = SoftwareTpm(folder / "tpm")
        self._settings = folder / "vmgate.toml"
        self._agent: subprocess.Popen[str] | None = None
        self._log = folder / "agent.log"
        RUN.symlink_to(self.root / "run/vmgate")

    def settings(self, repository: str, more: str = "") -> Path:
        """Write the host's settings; ``more`` ends them."""
        self._settings.write_text(
            f"""\
repository = "{repository}"
channels = ["platform", "workload"]
tpm = "{self.tpm.tcti}"
accelerator = "emulation"
{more}"""
        )
        return self._settings

    def vmgate(self, *arguments: str | Path) -> Result:
        """Run a command of this host."""
        environment = os.environ | {"VMGATE_ROOT": str(self.root), "NO_COLOR": "1"}
        command = [str(VMGATE), *map(str, arguments)]
        return Result(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        )

    def start_agent(self, *before: str) -> str:
        """Start the agent, by a program ``before`` it if so asked, and wait until it is ready; returns what it said."""
        self._agent = subprocess.Popen(
            [*before, str(VMGATE), "agent", "run", "--root", str(self.root)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log.open("a"), text=True,
        )  # fmt: skip
        said = ""
        if self._agent.stdout is None:
            raise RuntimeError("no pipe")
        for line in self._agent.stdout:
            said += line
            if line.startswith(READY):
                return said
        raise RuntimeError(f"the agent ended: {said}{self._log.read_text()[-2_000:]}")

    def stop_agent(self) -> None:
        """Stop the agent as a service manager would."""
        if self._agent is not None:
            self._agent.terminate()
            self._agent.wait(GUARD)
            self._agent = None

    def kill_agent(self) -> None:
        """End the agent as a power cut would."""
        if self._agent is not None:
            self._agent.send_signal(signal.SIGKILL)
            self._agent.wait(GUARD)
            self._agent = None

    def power_cycle(self) -> None:
        """Off and on again: VMs, agent, TPM and everything in /run are gone; disks and the TPM's NV memory stay."""
        for name in self.libvirt.virsh("list", "--name").stdout.split():
            self.libvirt.virsh("destroy", name)
        self.kill_agent()
        self.tpm.stop()
        self.unmount_images()
        shutil.rmtree(self.root / "run", ignore_errors=True)
        self.tpm.start()

    def unmount_images(self) -> None:
        """What a power cut does to mounts."""
        while images := [path for path in (self.root / "run/vmgate/vmm").glob("*") if is_mounted(path)]:
            subprocess.run(["umount", *images], check=True)

    def console_until(self, marker: str, name: str) -> str:
        """Wait until the VM's console shows ``marker``; fail at once on what never gets better."""
        log = self.root / "var/lib/vmgate/vms" / name / "console.log"
        deadline = time.monotonic() + GUARD
        while True:
            text = log.read_text(errors="replace") if log.exists() else ""
            if marker in text:
                return text
            for bad in ("No bootable option", "Kernel panic", "Access Denied"):
                if bad in text:
                    raise RuntimeError(f"the VM does not boot: {bad}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the VM did not say {marker!r}: {text[-500:]}")
            time.sleep(0.1)

    def close(self) -> None:
        """End the agent and the TPM. Whatever the tests did with this host, its records are as the table says."""
        self.kill_agent()
        self.tpm.stop()
        self.unmount_images()
        RUN.unlink(missing_ok=True)
        require_as_promised(records(HostPaths(self.root).audit))
