# SPDX-License-Identifier: Apache-2.0
"""A machine's TPM: a swtpm for QEMU, with an endorsement certificate of the rig's own CA. Its state is a folder.

``lab.tpm`` is a TPM that tests talk to themselves; this one belongs to a VM.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from rig.processes import start, stop
from rig.programs import RigBroken, run

SECONDS = 20.0
SETUP = """\
create_certs_tool = /usr/bin/swtpm_localca
create_certs_tool_config = {folder}/localca.conf
create_certs_tool_options = /etc/swtpm-localca.options
active_pcr_banks = sha256
"""
CA = """\
statedir = {ca}
signingkey = {ca}/signkey.pem
issuercert = {ca}/issuercert.pem
certserial = {ca}/certserial
"""


class MachineTpm:
    """One TPM.

    Args:
        folder: absolute and short; holds the socket, ``state`` and the log.
        ca: folder of the CA that certifies its endorsement key; filled at its first use.
    """

    def __init__(self, folder: Path, ca: Path) -> None:
        self._folder = folder
        self._ca = ca
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where QEMU finds it."""
        return self._folder / "tpm.sock"

    @property
    def state(self) -> Path:
        """The folder of its permanent state."""
        return self._folder / "tpm"

    def manufacture(self) -> None:
        """Make a new TPM: seeds, endorsement key and its certificate; PCRs in SHA-256 only."""
        self.state.mkdir()
        self._ca.mkdir(parents=True, exist_ok=True)
        setup, ca = self._folder / "setup.conf", self._folder / "localca.conf"
        setup.write_text(SETUP.format(folder=self._folder))
        ca.write_text(CA.format(ca=self._ca.absolute()))
        run("swtpm_setup", "--tpm2", "--tpmstate", self.state, "--config", setup, "--create-ek-cert",
            "--create-platform-cert", "--pcr-banks", "sha256", "--overwrite")  # fmt: skip

    def start(self) -> None:
        """Switch it on and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"]
        self._process = start([*command, "--ctrl", f"type=unixio,path={self.socket}"], self._folder / "tpm.log")
        deadline = time.monotonic() + SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RigBroken(f"swtpm did not start: {(self._folder / 'tpm.log').read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Cut its power."""
        stop(self._process)
        self._process = None
