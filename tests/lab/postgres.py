# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own: Debian's, on a Unix socket in a folder of its own, run by a user without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = "/usr/lib/postgresql/*/bin"
USER = "postgres"
GUARD = 60


def programs() -> Path:
    """Where the newest one's programs are."""
    found = sorted(Path("/").glob(PROGRAMS.lstrip("/")), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("PostgreSQL is not installed: .ci/system-packages")
    return found[-1]


def _as_user(*command: str | Path) -> list[str]:
    """PostgreSQL refuses to be run by root."""
    return ["runuser", "-u", USER, "--", *map(str, command)] if os.getuid() == 0 else [str(part) for part in command]


def _run(*command: str | Path) -> None:
    done = subprocess.run(_as_user(*command), capture_output=True, text=True, check=False, timeout=GUARD, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")


class Postgres:
    """One cluster.

    Args:
        folder: absolute and short; the server's user can enter it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        _run(
            programs() / "initdb", "-D", self._data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-U", USER
        )
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} -c max_connections=200"
        _run(
            programs() / "pg_ctl", "-D", self._data, "-l", self._folder / "log", "-w", "-t", str(GUARD),
            "-o", options, "start",
        )  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, as a crash does or in order."""
        _run(programs() / "pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    @property
    def pid(self) -> int:
        """Its first process."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def create(self, name: str) -> str:
        """Make an empty database; returns its address."""
        _run(programs() / "createdb", "-h", self._folder, "-U", USER, name)
        return f"postgresql+psycopg://{USER}@/{name}?host={self._folder}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A cluster for the time of a block."""
    with tempfile.TemporaryDirectory(prefix="vmgate-pg-", dir="/var/tmp") as path:
        folder = Path(path)
        folder.chmod(0o755)
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
