# SPDX-License-Identifier: Apache-2.0
"""Programs of the administrator that run around an update: one folder for each event, in the order of names.

Each runs as root, without a shell, with a few named values in its environment and nothing else, until a deadline. None
of a folder runs if anybody but root could have written to one of them or to a folder on the way. What they print goes
to the agent's log. This module does not decide what follows from a failure.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.audit import AuditTrail
from agent.errors import HookFailed, HookUntrusted
from content.errors import storage
from documents.errors import VmgateError

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
EVENTS = ("update-before", "update-after", "update-health", "vm-restart")
MAX_HOOKS = 100


class Hooks:
    """The hooks of one host.

    Args:
        folder: such as ``/etc/vmgate/hooks``; the event's name and ``.d`` name the folder in it.
        root: the folders from there on must be root's.
        audit: every run is recorded.
        seconds: deadline of each.
        owner: who must own them.
    """

    def __init__(self, folder: Path, root: Path, audit: AuditTrail, seconds: float, owner: int = 0) -> None:
        self._folder = folder
        self._root = root
        self._audit = audit
        self._seconds = seconds
        self._owner = owner

    def run(self, event: str, actor: str, values: Mapping[str, str]) -> None:
        """Run the hooks of an event; the first that fails ends it.

        Args:
            event: one of ``EVENTS``.
            actor: for the record.
            values: for the environment, by name.

        Raises:
            HookUntrusted: somebody else could have written them; none was run.
            HookFailed: one failed; those after it were not run.
            ContentError: they cannot be read, or not be recorded.
        """
        try:
            hooks = self._trusted(self._folder / f"{event}.d")
        except HookUntrusted as error:
            self._audit.append("update-hook", "refused", event, actor, code=error.code, cause=error.cause)
            raise
        for hook in hooks:
            subject = f"{event}/{hook.name}"
            self._audit.append("update-hook", "started", subject, actor)
            try:
                self._run(hook, {"PATH": PATH, "LC_ALL": "C.UTF-8", "VMGATE_EVENT": event, **values})
            except HookFailed as error:
                self._audit.append("update-hook", "failed", subject, actor, code=error.code, cause=error.cause)
                raise
            self._audit.append("update-hook", "done", subject, actor)

    def try_run(self, event: str, actor: str, values: Mapping[str, str]) -> str:
        """The same where a failure changes nothing: it was recorded; returns it as one line, or nothing."""
        try:
            self.run(event, actor, values)
        except VmgateError as error:
            return error.line()
        return ""

    def _trusted(self, folder: Path) -> tuple[Path, ...]:
        with storage("the hooks were not read", folder):
            if not folder.is_symlink() and not folder.exists():
                return ()
            way = (folder, *folder.parents)
            for place in way[: way.index(self._root) + 1]:
                self._require_roots(place, place.lstat(), stat.S_ISDIR)
            hooks = tuple(sorted(folder.iterdir()))
            for hook in hooks:
                status = hook.lstat()
                self._require_roots(hook, status, stat.S_ISREG)
                if not status.st_mode & stat.S_IXUSR:
                    raise _untrusted(hook, "it is not executable")
        if len(hooks) > MAX_HOOKS:
            raise _untrusted(folder, f"it holds more than {MAX_HOOKS} programs")
        return hooks

    def _require_roots(self, path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
        if not is_kind(status.st_mode):
            raise _untrusted(path, "it is a link, or not of its kind")
        if status.st_uid != self._owner:
            raise _untrusted(path, f"it belongs to user {status.st_uid}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _untrusted(path, "others can write to it")

    def _run(self, hook: Path, environment: dict[str, str]) -> None:
        try:
            process = subprocess.Popen(
                [hook], stdin=subprocess.DEVNULL, stdout=2, cwd="/", env=environment, start_new_session=True
            )
        except OSError as error:
            raise _failed(hook, f"it could not be started: {error.strerror or error}") from error
        try:
            status = process.wait(self._seconds)
        except subprocess.TimeoutExpired as error:
            # Nobody has waited for it yet, so its number is still that of its own session.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise _failed(hook, f"it was ended after {self._seconds:g} seconds") from error
        if status:
            raise _failed(hook, f"it exited {status}" if status > 0 else f"signal {-status} ended it")


def _untrusted(path: Path, why: str) -> HookUntrusted:
    return HookUntrusted(
        "no hook was run", cause=f"{path}: {why}", remedy="let root own it and nobody else write to it"
    )


def _failed(hook: Path, why: str) -> HookFailed:
    return HookFailed(
        f"the hook {hook.name} failed", cause=f"{hook}: {why}", remedy="see the agent's log for what it said"
    )
