# SPDX-License-Identifier: Apache-2.0
"""Processes that end with the one that started them, however that ends; none of anybody else's is touched."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def start(command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to the end of a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 (it is one system call)
        )


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """End a process at once, as a power cut would; none or an ended one is fine."""
    if process is not None:
        process.kill()
        process.wait(SECONDS)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
