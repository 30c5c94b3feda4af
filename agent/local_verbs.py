# SPDX-License-Identifier: Apache-2.0
"""The verbs by which the VMs and images of this host are made: arguments in, answers out. Holds no logic of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from agent.errors import BadRequest
from agent.images import take_image
from agent.local_vms import LocalVms, Written
from agent.server import Call, Handler
from content.store import ContentStore
from documents.canonical import Json
from documents.fields import NAME

MAX_IMAGES = 16


class LocalVerbs:
    """Answers requests about what is made on one host.

    Args:
        local: see ``agent.local_vms.LocalVms``.
        store: of this host.
        lock: held while state changes.
        changed: told when a VM was made, changed or forgotten.
        signed: told when something was signed.
    """

    def __init__(
        self,
        local: LocalVms,
        store: ContentStore,
        lock: AbstractContextManager[bool],
        changed: Callable[[], object],
        signed: Callable[[], object],
    ) -> None:
        self._local = local
        self._store = store
        self._lock = lock
        self._changed = changed
        self._signed = signed

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        return {
            "image/list": self._images,
            "image/import": self._import,
            "vm/create": self._create,
            "vm/edit": self._edit,
            "vm/forget": self._forget,
        }

    def _images(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._local.images()

    def _import(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        path, name = Path(call.take("file")), call.take("image")
        call.finish()
        if not path.is_absolute() or not NAME.fullmatch(name):
            raise BadRequest("nothing was imported", cause="path or name is not in its form", remedy="see --help")
        take = partial(take_image, path, name, call.permit.uid, self._store)
        with self._lock:
            try:
                return self._local.add_image(name, take, call.actor)
            finally:
                self._signed()

    def _create(self, call: Call) -> dict[str, Json]:
        return self._change(call, self._local.create)

    def _edit(self, call: Call) -> dict[str, Json]:
        return self._change(call, self._local.edit)

    def _change(self, call: Call, change: Callable[[str, Written, str], dict[str, Json]]) -> dict[str, Json]:
        call.require_fresh()
        name, text, values = call.take("name"), call.take("text", ""), call.take("values", "")
        images = tuple(image for image in call.take("images", "").split(" ") if image)
        call.finish()
        if len(images) > MAX_IMAGES or not NAME.fullmatch(name) or len(name) > 63:
            raise BadRequest(
                "nothing was signed", cause="the name, or an image, is not in its form", remedy="see --help"
            )
        with self._lock:
            try:
                done = change(name, Written(text=text, values=values, images=images), call.actor)
                self._changed()
            finally:
                self._signed()
        return done

    def _forget(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        name = call.take("name")
        call.finish()
        with self._lock:
            try:
                done = self._local.forget(name, call.actor)
            finally:
                self._signed()
        return done
