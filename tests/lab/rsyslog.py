# SPDX-License-Identifier: Apache-2.0
"""A real rsyslogd on 127.0.0.1 that takes syslog over TLS from clients with a certificate and writes what it got."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

GUARD = 60

CONFIGURATION = """\
global(
    workDirectory="{folder}"
    maxMessageSize="256k"
    DefaultNetstreamDriver="ossl"
    DefaultNetstreamDriverCAFile="{ca}"
    DefaultNetstreamDriverCertFile="{certificate}"
    DefaultNetstreamDriverKeyFile="{key}"
)
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="audit")
template(name="vmgate" type="string"
    string="%pri% %hostname% %app-name% %msgid% %structured-data% %msg%\\n")
ruleset(name="audit") {{ action(type="omfile" file="{output}" template="vmgate") }}
"""


class Rsyslog:
    """One server with a folder of its own; ``output`` is the file that it writes, a message a line."""

    def __init__(self, folder: Path, ca: Path, certificate: Path, key: Path) -> None:
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.output = folder / "received"
        self._folder = folder
        self._settings = folder / "rsyslog.conf"
        self._settings.write_text(
            CONFIGURATION.format(
                folder=folder, ca=ca, certificate=certificate, key=key, port=self.port, output=self.output
            )
        )
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(self._settings), "-i", str(self._folder / "pid")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        deadline = time.monotonic() + GUARD
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()[-2_000:]) from error
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """End it, as its service manager does."""
        self._process.terminate()
        self._process.wait(GUARD)

    def lines(self, count: int) -> list[str]:
        """All lines, as soon as there are so many."""
        deadline = time.monotonic() + GUARD
        while True:
            found = self.output.read_text().splitlines() if self.output.exists() else []
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} lines of {count}: {(self._folder / 'log').read_text()[-2_000:]}")
            time.sleep(0.1)
