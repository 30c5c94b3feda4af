# SPDX-License-Identifier: Apache-2.0
"""Makes an empty, encrypted data disk, by the same QEMU that the platform release names and measures.

The image is qcow2 with LUKS: what the guest never wrote takes no room and reads as zeros. QEMU gets an empty file, a
size and a passphrase by a pipe; it opens no image, has no guest, no device and no network, and may start no process.
This module gives the disk its name only when it is whole.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from agent.errors import DiskNotMade
from agent.vtpm import pipe
from content import durable, patching
from documents.canonical import Json
from hypervisor.image_file import open_image
from hypervisor.qcow2 import MAX_HEADER
from hypervisor.qcow2_write import put_generation

SECONDS = 120
"""For QEMU to make one; it takes as long as LUKS measures the processor, seconds where that is busy."""

POLL_SECONDS = 0.02
ROUNDS_MS = 10
"""How long LUKS may stretch the passphrase: it has 256 random bits, and nobody guesses it."""

MAX_LINE = 100_000
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def make_data_disk(emulator: Path, path: Path, size: int, passphrase: bytes, mark: bytes) -> None:
    """Make a disk, in the place of one that no guest has seen.

    Args:
        emulator: QEMU.
        path: of the disk; its folder is there and root's alone.
        size: bytes that the guest sees.
        passphrase: that opens it.
        mark: of its first generation.

    Raises:
        DiskNotMade: QEMU did not make it.
        StorageFull: no room; nothing stays behind.
    """
    fresh = durable.temporary(path.parent)
    with durable.Writer(fresh, keep=True) as writer:
        writer.finish()
    try:
        with pipe(passphrase.decode()) as key:
            _create(emulator, fresh, size, key)
        with open_image(fresh) as image:
            head = image.head(MAX_HEADER)
        patching.patch(fresh, 0, put_generation(head, mark))
        durable.rename(fresh, path)
    finally:
        # Where it has its name by now, nothing is left of this one.
        durable.remove(fresh)


def _create(emulator: Path, path: Path, size: int, key: int) -> None:
    command = [
        str(emulator), "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S",
        "-sandbox", SANDBOX, "-object", f"secret,id=key,file=/dev/fd/{key}", "-qmp", "stdio",
    ]  # fmt: skip
    options: dict[str, Json] = {
        "driver": "qcow2",
        "file": "file",
        "size": size,
        # QEMU marks the image while it is open: who finds the mark knows that QEMU was cut off.
        "lazy-refcounts": True,
        "encrypt": {"format": "luks", "key-secret": "key", "iter-time": ROUNDS_MS},
    }
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, pass_fds=(key,),
        )  # fmt: skip
    except OSError as error:
        raise _failed(f"{emulator} could not be started: {error.strerror or error}") from error
    # Whatever it does or does not say: the hook waits.
    guard = threading.Timer(SECONDS, process.kill)
    guard.start()
    with process:
        try:
            talk = _Monitor(process)
            talk.say("qmp_capabilities")
            talk.say("blockdev-add", {"driver": "file", "node-name": "file", "filename": str(path)})
            talk.say("blockdev-create", {"job-id": "make", "options": options})
            talk.wait("make")
            talk.say("quit")
            process.wait()
        finally:
            process.kill()
            guard.cancel()


class _Monitor:
    """QEMU's monitor (``docs/interop/qmp-spec.txt``) on a pipe: one question, one answer, and events between them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise _failed("QEMU has no pipe")
        self._ask, self._answer = process.stdin, process.stdout
        self._deadline = time.monotonic() + SECONDS
        self._line()

    def say(self, command: str, arguments: dict[str, Json] | None = None) -> Any:
        """Give a command; returns its answer."""
        question = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
        try:
            self._ask.write(question.encode() + b"\n")
            self._ask.flush()
        except OSError as error:
            raise _failed("QEMU ended") from error
        while True:
            answer = self._line()
            if "error" in answer:
                raise _failed(f"{command}: {str(answer['error'])[:200]}")
            if "return" in answer:
                return answer["return"]

    def wait(self, job: str) -> None:
        """Wait for a job's end."""
        while time.monotonic() < self._deadline:
            jobs = [found for found in self.say("query-jobs") if found.get("id") == job]
            if jobs and jobs[0].get("status") == "concluded":
                if "error" in jobs[0]:
                    raise _failed(str(jobs[0]["error"])[:200])
                return
            time.sleep(POLL_SECONDS)
        raise _failed(f"it took longer than {SECONDS} seconds")

    def _line(self) -> dict[str, Any]:
        line = self._answer.readline(MAX_LINE)
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise _failed("QEMU gave no answer") from error
        return answer if isinstance(answer, dict) else {}


def _failed(cause: str) -> DiskNotMade:
    return DiskNotMade(
        "the data disk was not made", cause=cause, remedy="see that there is room, and that QEMU is the measured one"
    )
