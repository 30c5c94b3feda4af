# SPDX-License-Identifier: Apache-2.0
"""The verbs about what a VM keeps: arguments in, answers out. Holds no logic of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from agent.errors import BadRequest
from agent.server import Call, Handler
from agent.sight import require_sight
from agent.vm_care import VmCare
from agent.vm_export import VmExport
from agent.vm_import import VmImport
from documents.canonical import Json
from documents.local_set import LocalSet

DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})|")


class SetVerbs:
    """Answers requests about what the VMs of one host keep.

    Args:
        care, exports, imports: of the host.
        local: gives what the local authority vouches for.
        lock: held while state changes.
        signed: told when something was recorded that is to be signed soon.
    """

    def __init__(
        self,
        care: VmCare,
        exports: VmExport,
        imports: VmImport,
        local: Callable[[], LocalSet | None],
        lock: AbstractContextManager[bool],
        signed: Callable[[], object],
    ) -> None:
        self._care = care
        self._exports = exports
        self._imports = imports
        self._local = local
        self._lock = lock
        self._signed = signed

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        return {
            "vm/accept": self._accept,
            "vm/delete": self._delete,
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

    def _export(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name, path, recipient = call.take("name"), Path(call.take("file")), call.take("recipient")
        call.finish()
        require_sight(path.parent)
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
