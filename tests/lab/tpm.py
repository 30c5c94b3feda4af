# SPDX-License-Identifier: Apache-2.0
"""A software TPM of a test's own: real swtpm on a Unix socket, whose state outlives its power.

It listens on ``<directory>/tpm`` and, for control, on ``<directory>/tpm.ctrl``, which is where the TCTI looks for it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from measure.ek_roots import Roots, read_certificates

GUARD = 20
"""Seconds after which a swtpm that does not come up, or does not go, is taken for hung."""

COMMAND = re.compile(r"SWTPM_IO_Read: length \d+\s+8[0-9A-F] 0[0-9] (?:[0-9A-F]{2} ){4}((?:[0-9A-F]{2} ){4})")
"""In swtpm's log, the code of a command: after a tag of two bytes and a size of four."""

COMMANDS = {
    0x120: "EvictControl", 0x122: "NV_DefineSpace", 0x12A: "NV_Increment",
    0x131: "CreatePrimary", 0x149: "PolicyNV", 0x14E: "NV_Read", 0x153: "Create", 0x157: "Load", 0x158: "Quote",
    0x15D: "Sign", 0x15E: "Unseal", 0x165: "FlushContext", 0x167: "LoadExternal", 0x169: "NV_ReadPublic",
    0x16A: "PolicyAuthorize", 0x16C: "PolicyCommandCode", 0x173: "ReadPublic", 0x176: "StartAuthSession",
    0x177: "VerifySignature", 0x17A: "GetCapability", 0x17E: "PCR_Read", 0x17F: "PolicyPCR", 0x181: "ReadClock",
    0x182: "PCR_Extend",
}  # fmt: skip
"""Of TPM 2.0 Part 2, 6.5.2; those that vmgate uses."""

CMD_GET_CAPABILITY = (1).to_bytes(4, "big")
"""Of swtpm's control protocol (swtpm_ioctls(3))."""


def quiet() -> None:
    """Keep the TPM library from printing what the tests expect to go wrong. Call it before the library is loaded."""
    os.environ.setdefault("TSS2_LOG", "all+none")


quiet()


class SoftwareTpm:
    """One swtpm process and its state.

    Args:
        directory: absolute, short (a socket's path has at most 107 bytes), and this TPM's alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def tcti(self) -> str:
        """How a client reaches it."""
        return f"swtpm:path={self._directory}/tpm"

    @property
    def state(self) -> Path:
        """The folder of its permanent state."""
        return self._directory / "state"

    def start(self, *, resume: bool = False) -> None:
        """Switch it on over whatever permanent state there is: TPM2_Startup(CLEAR), or (STATE) as after a sleep.

        A resume needs TPM2_Shutdown(STATE) before the power was cut.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        data, control = self._directory / "tpm", self._directory / "tpm.ctrl"
        for path in (data, control):
            path.unlink(missing_ok=True)
        # The control socket is bound here: a question waits in it until the TPM serves, and then is answered.
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(str(control))
            listener.listen(1)
            command = [
                "swtpm",
                "socket",
                "--tpm2",
                *("--tpmstate", f"dir={self.state}"),
                *("--server", f"type=unixio,path={data}"),
                *("--ctrl", f"type=unixio,fd={listener.fileno()}"),
                *("--flags", f"not-need-init,startup-{'state' if resume else 'clear'}"),
                # So much that each command is in it.
                *("--log", f"file={self._directory}/log,level=5"),
            ]
            self._process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
            listener.close()
            client.settimeout(GUARD)
            client.connect(str(control))
            client.sendall(CMD_GET_CAPABILITY)
            if not client.recv(64):
                raise RuntimeError(f"swtpm did not start; see {self._directory}/log")

    def commands(self) -> list[str]:
        """The TPM commands that it was given since the log began, by name, or by code where the name is not known."""
        log = (self._directory / "log").read_text(errors="replace")
        codes = (int("".join(found.split()), 16) for found in COMMAND.findall(log))
        return [COMMANDS.get(code, f"{code:#x}") for code in codes]

    def stop(self) -> None:
        """Cut its power: it gets no word before."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(GUARD)
        self._process = None

    def power_cycle(self) -> None:
        """Off and on again: permanent state kept, PCRs at their reset values."""
        self.stop()
        self.start()

    def save(self, target: Path) -> None:
        """Copy the state of a TPM that is off."""
        shutil.copytree(self.state, target)

    def restore(self, source: Path) -> None:
        """Put back what ``save`` copied; the TPM is off."""
        shutil.rmtree(self.state)
        shutil.copytree(source, self.state)


class Manufacturer:
    """A manufacturer of software TPMs: swtpm's own authority, which gives each an RSA endorsement key's certificate.

    Args:
        folder: its keys and certificates; absolute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority = {"statedir": "", "signingkey": "key.pem", "issuercert": "issuer.pem", "certserial": "serial"}
        files = {
            "authority.conf": "".join(f"{key} = {folder / name}\n" for key, name in authority.items()),
            "authority.options": "--platform-manufacturer lab\n--platform-version 1\n--platform-model lab\n",
            "setup.conf": (
                f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
                f"create_certs_tool_config = {folder}/authority.conf\n"
                f"create_certs_tool_options = {folder}/authority.options\n"
            ),
        }
        for name, text in files.items():
            (folder / name).write_text(text)

    def make(self, tpm: SoftwareTpm) -> None:
        """Give a TPM that was never started its keys and certificate."""
        tpm.state.mkdir(parents=True)
        command = ["swtpm_setup", "--tpm2", "--tpmstate", str(tpm.state), "--create-ek-cert", "--pcr-banks", "-"]
        command += ["--config", str(self._folder / "setup.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"swtpm_setup: {done.stdout}{done.stderr}")

    @property
    def certificates(self) -> tuple[Path, Path]:
        """Its root's and its issuing authority's certificate, once it made a TPM."""
        return self._folder / "swtpm-localca-rootca-cert.pem", self._folder / "issuer.pem"

    def roots(self, *, chips: bool = False) -> Roots:
        """What a verifier of its TPMs believes, who knows them for programs, or takes them for chips."""
        found = [certificate for path in self.certificates for certificate in read_certificates(path.read_bytes())]
        return Roots(chips=found) if chips else Roots(software=found)
