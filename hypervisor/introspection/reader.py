# SPDX-License-Identifier: Apache-2.0
"""The agent's side of reading a guest: an image of its memory that has no name, and a process that may only read it.

The image is a memfd: it is never on a disk, nobody else can open it but root, and it goes with its last descriptor,
also when the agent is killed. The agent itself parses nothing of it; it reads one bounded answer.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from content import durable
from content.errors import storage
from documents.canonical import Json
from hypervisor.errors import NoRoomForMemory
from hypervisor.introspection.answers import LIMIT, failed, read_answer

SECONDS = 120.0
"""A guest that cannot be read in that time is not read."""
SPARE = 256 * 1024 * 1024
"""Bytes that the host keeps for itself."""
_SITE = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from hypervisor.introspection.worker import main; main()"
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@contextmanager
def memory_image(size: int, dump: Callable[[Path], None]) -> Iterator[int]:
    """A descriptor to read an image of a guest's memory by; it is gone afterwards, whatever happens.

    Args:
        size: bytes of the guest's memory.
        dump: lets somebody write the image to a path.

    Raises:
        NoRoomForMemory: the host has too little memory left.
        ContentError: the image was not made.
    """
    free = _available(durable.read_file(Path("/proc/meminfo"), 100_000).decode("ascii", "replace"))
    if free < size + SPARE:
        raise NoRoomForMemory(
            "the guest's memory was not read",
            cause=f"that takes {(size + SPARE) >> 20} MiB of the host's memory and {free >> 20} MiB are free",
            remedy="stop something else first",
        )
    failure = "the guest's memory was not read"
    with storage(failure, Path("memfd")):
        image = os.memfd_create("vmgate-guest-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        path = Path(f"/proc/{os.getpid()}/fd/{image}")
        dump(path)
        with storage(failure, path):
            # Nobody changes it while it is read.
            fcntl.fcntl(image, fcntl.F_ADD_SEALS, _SEALS)
            readable = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield readable
        finally:
            os.close(readable)
    finally:
        os.close(image)


def _available(meminfo: str) -> int:
    """Bytes of memory that can be had without swapping (proc(5)); 0 where the kernel does not say."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if name == "MemAvailable" and number and number[0].isdecimal():
            return int(number[0]) * 1024
    return 0


def read_guest(image: int, view: str, btf_digest: str = "", seconds: float = SECONDS) -> dict[str, Json]:
    """Let a confined process read an image, and read its answer.

    Args:
        image: descriptor of an ELF core.
        view: one of ``answers.VIEWS``.
        btf_digest: see ``kernel.find_kernel``.
        seconds: after which it is ended.

    Raises:
        ReaderFailed: it did not answer in time and form.
        IntrospectionError: the guest cannot be read.
    """
    process = _started(image, view, btf_digest)
    try:
        untrusted = _bounded(cast("IO[bytes]", process.stdout).fileno(), time.monotonic() + seconds)
    finally:
        process.kill()
        status = process.wait()
        if process.stdout:
            process.stdout.close()
    if untrusted is None:
        raise failed(f"the process that reads it did not answer within {seconds:g} seconds and {LIMIT} bytes")
    if not untrusted:
        raise failed(f"the process that reads it ended with status {status} and without an answer")
    return read_answer(untrusted, view)


def _started(image: int, view: str, btf_digest: str) -> subprocess.Popen[bytes]:
    """The process, with nothing of the agent's but the image and a pipe."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _START, str(_SITE), view, btf_digest],
            stdin=image, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env={}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise failed(f"no process was started: {error.strerror or error}") from error


def _bounded(stream: int, deadline: float) -> bytes | None:
    """All that a process writes to a pipe; None where that is too much or takes too long."""
    waiting = select.poll()
    waiting.register(stream, select.POLLIN)
    found = bytearray()
    while len(found) <= LIMIT:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            return None
        part = os.read(stream, 65_536)
        if not part:
            return bytes(found)
        found += part
    return None
