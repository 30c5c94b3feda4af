# SPDX-License-Identifier: Apache-2.0
"""The verbs about what a VM keeps: arguments in, answers out. Holds no logic of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from agent.checkpoints import Checkpoints
from agent.errors import BadRequest
from agent.server import Call, Handler
from agent.sight import require_seen, require_sight
from agent.vm_care import VmCare
from agent.vm_export import VmExport
from agent.vm_import import VmImport
from documents.canonical import Json
from documents.local_set import LocalSet

DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})|")


MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSets:
    """What works on all that a VM of one host keeps."""

    care: VmCare
    checkpoints: Checkpoints
    exports: VmExport
    imports: VmImport


class SetVerbs:
    """Answers requests about what the VMs of one host keep.

    Args:
        sets: of the host.
        local: gives what the local authority vouches for.
        lock: held while state changes.
        signed: told when something was recorded that is to be signed soon.
    """

    def __init__(
        self,
        sets: VmSets,
        local: Callable[[], LocalSet | None],
        lock: AbstractContextManager[bool],
        signed: Callable[[], object],
    ) -> None:
        self._care = sets.care
        self._kept = sets.checkpoints
        self._exports = sets.exports
        self._imports = sets.imports
        self._local = local
        self._lock = lock
        self._signed = signed

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        return {
            "vm/accept": self._accept,
            "vm/delete": self._delete,
            "vm/checkpoint": self._checkpoint,
            "vm/checkpoints": self._checkpoints,
            "vm/restore": self._restore,
            "vm/export": self._export,
            "vm/import": self._import,
        }

    def _accept(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name = call.take("name")
        call.finish()
        return self._care.accept(name, call.actor)

    def _delete(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name = call.take("name")
        call.finish()
        with self._lock:
            return self._care.delete(name, call.actor)

    def _checkpoints(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        return self._kept.list(name)

    def _checkpoint(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name, remove = call.take("name"), call.take("remove", "")
        call.finish()
        with self._lock:
            try:
                if remove:
                    return self._kept.remove(name, _number(remove), call.actor)
                return self._kept.create(name, call.actor)
            finally:
                self._signed()

    def _restore(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name, number = call.take("name"), _number(call.take("number"))
        call.finish()
        with self._lock:
            try:
                return self._kept.restore(name, number, call.actor)
            finally:
                self._signed()

    def _export(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name, path, recipient = call.take("name"), Path(call.take("file")), call.take("recipient")
        call.finish()
        require_sight(path.parent)
        require_seen(path)
        try:
            return self._exports.export(name, path, recipient.encode(), call.actor, call.permit.uid, self._local())
        finally:
            self._signed()

    def _import(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        path, key, signer = Path(call.take("file")), call.take("key"), call.take("signer", "")
        call.finish()
        match = DIGEST.fullmatch(signer)
        if not path.is_absolute() or match is None:
            raise BadRequest("nothing was imported", cause="path or signer is not in its form", remedy="see --help")
        require_sight(path)
        try:
            with self._lock:
                return self._imports.take(path, key, match[1] or "", call.actor, call.permit.uid)
        finally:
            self._signed()


def _number(untrusted: str) -> int:
    if not untrusted.isascii() or not untrusted.isdecimal() or len(untrusted) > MAX_DIGITS:
        raise BadRequest("nothing was changed", cause="that is no number of a checkpoint", remedy="see --help")
    return int(untrusted)
