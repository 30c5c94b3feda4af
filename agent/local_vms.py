# SPDX-License-Identifier: Apache-2.0
"""Makes, changes and forgets the VMs and images of this host, each time by a signature of the local authority.

What is refused here is only told early: the gate asks all of it again at each start (``agent.local_gate``). Whether
whoever asks may, and has just proved it, was asked before. This module starts nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import PurePath

from agent.errors import BadRequest, NotFound, PolicyRefused
from agent.local_authority import LocalAuthority
from agent.local_gate import LOCAL_GUARDIANS, published
from agent.outside import Outside
from agent.plan import Plan
from agent.vm_errors import LocalTaken, LocalUnfit
from agent.vm_places import VmPlaces
from content import durable
from content.errors import Missing
from content.store import ContentStore
from documents.canonical import Json, decode
from documents.definition import VmDefinition
from documents.definition_toml import DEFAULTS, read_defaults, read_definition, write_definition
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.local_set import SALT, LocalImage, LocalSet, LocalVm
from documents.security_policy import LOCAL_VMS, SecurityPolicy
from documents.tables import LIMIT, read_table

MAX_VALUES = 20_000
"""Bytes of what a command says besides a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What somebody wrote of a VM.

    Attributes:
        text: the definition in TOML; it may lack what the defaults, or the VM as it is, have.
        values: what goes before it, as canonical JSON: keys of a definition.
        images: names or digests of the images that the disks are to be, in boot order; none: as written.
    """

    text: str
    values: str
    images: tuple[str, ...]


class LocalVms:
    """Answers ``vmgate vm create``, ``edit`` and ``forget``, and has images signed.

    Args:
        outside, store, plan, authority: of this host.
        require_active: gives the active generation, or raises ``NotReady``.
        policy: gives the signed security policy.
        turn: held while starts are judged, so that none sees half a change.
    """

    def __init__(
        self,
        outside: Outside,
        store: ContentStore,
        plan: Plan,
        authority: LocalAuthority,
        require_active: Callable[[], Generation],
        policy: Callable[[Generation], SecurityPolicy],
        turn: AbstractContextManager[bool],
    ) -> None:
        self._outside = outside
        self._store = store
        self._plan = plan
        self._authority = authority
        self._require_active = require_active
        self._policy = policy
        self._turn = turn

    def create(self, name: str, written: Written, actor: str) -> dict[str, Json]:
        """Make a VM.

        Raises:
            PolicyRefused, LocalTaken, LocalUnfit: it may not be; recorded, and nothing was signed.
            TomlWrong: what was written is no definition.
        """
        with self._turn, self._watched("create", name, actor):
            generation = self._allowed()
            now = self._now()
            if now.vm(name) is not None:
                raise _taken(f"this host has a VM {name} already", "choose another name, or `vmgate vm edit`")
            base = {**DEFAULTS, **self._defaults(), "uuid": str(uuid.uuid4())}
            definition = self._read(name, written, base, now)
            self._require_free(definition, generation, now)
            return self._sign(definition, os.urandom(SALT), generation, actor, "create")

    def require_free(self, definition: VmDefinition) -> None:
        """Require that a VM which was made on another host could be made here, or was made here just so.

        Raises:
            PolicyRefused, LocalTaken, LocalUnfit: it could not.
        """
        generation, now = self._allowed(), self._now()
        here = now.vm(definition.name)
        if here is not None and here.uuid != definition.uuid:
            raise _taken(f"this host has a VM {definition.name} already", "forget that first")
        if not set(definition.guardians) <= LOCAL_GUARDIANS:
            raise _unfit("a local VM has the guardians tpm and recovery at most", "leave the others out")
        self._require_free(definition, generation, now)

    def adopt(self, definition: VmDefinition, actor: str) -> None:
        """Make a VM by a definition from another host, unless this host has it already.

        Raises:
            PolicyRefused, LocalTaken, LocalUnfit: it may not be; recorded, and nothing was signed.
        """
        with self._turn, self._watched("create", definition.name, actor):
            self.require_free(definition)
            if self._now().vm(definition.name) is None:
                self._sign(definition, os.urandom(SALT), self._allowed(), actor, "create")

    def adopt_image(self, image: LocalImage, store: Callable[[], LocalImage], actor: str) -> None:
        """Let the authority vouch for an image from another host, unless it does already.

        Raises:
            PolicyRefused, LocalTaken: see ``add_image``.
        """
        if all(known.fsverity != image.fsverity for known in self._now().images):
            self.add_image(image.name, store, actor)

    def edit(self, name: str, written: Written, actor: str) -> dict[str, Json]:
        """Change a VM. What runs goes on as it was started; the next start is by the new definition.

        Raises:
            NotFound: this host has made no such VM.
            PolicyRefused, LocalTaken, LocalUnfit, TomlWrong: see ``create``.
        """
        with self._turn, self._watched("edit", name, actor):
            generation = self._allowed()
            now = self._now()
            vm = self._find(now, name)
            before = VmDefinition.parse(self._store.read(vm.fsverity, vm.length))
            images = {image.fsverity: image.name for image in now.images}
            definition = self._read(name, written, write_definition(before, images), now)
            if definition.uuid != vm.uuid:
                raise _unfit(f"the uuid of {name} is {vm.uuid}, and names its key", "leave it, or make another VM")
            self._require_free(definition, generation, now)
            return self._sign(definition, vm.salt, generation, actor, "edit")

    def forget(self, name: str, actor: str) -> dict[str, Json]:
        """Forget a VM's definition. What it kept here is set aside and comes back with its UUID.

        Raises:
            NotFound: this host has made no such VM.
            NotReady: it runs.
        """
        generation = self._require_active()
        vm = self._find(self._now(), name)
        # Without the turn: libvirt may be waiting for the gate.
        VmPlaces(self._outside.paths, self._outside.hypervisor).leave(name, vm.uuid)
        with self._turn:
            signed = self._authority.sign(
                lambda now: replace(now, vms=tuple(other for other in now.vms if other.name != name)),
                generation.platform, actor, act="forget", subject=name, fsverity=vm.fsverity,
            )  # fmt: skip
            return {"name": name, "number": signed.number}

    def add_image(self, name: str, store: Callable[[], LocalImage], actor: str) -> dict[str, Json]:
        """Let the authority vouch for an image.

        Args:
            name: it shall have.
            store: puts it into the store, and says what it is. Not called where it is refused before.
            actor: who imports it.

        Raises:
            PolicyRefused, LocalTaken: it may not be; recorded.
        """
        # No turn is held while it is copied: starts go on.
        with self._watched("import", name, actor):
            generation = self._allowed()
            if self._now().image(name) is not None:
                raise _taken(f"this host has an image {name} already", "choose another name by --name")
            image = store()
            theirs = published(self._plan, generation)
            if image.fsverity in theirs.images:
                raise _taken(f"it is the image of {theirs.images[image.fsverity]}", "make a VM of that by a release")
            signed = self._authority.sign(
                lambda now: replace(now, images=_sorted_images((*now.images, image))),
                generation.platform, actor, act="import", subject=name, fsverity=image.fsverity,
            )  # fmt: skip
            return {**image.members(), "number": signed.number}

    def images(self) -> dict[str, Json]:
        """The images of this host, and which of its VMs have them."""
        now = self._authority.vouched()
        content = now.content if now else None
        used: dict[str, list[str]] = {}
        for vm in content.vms if content else ():
            try:
                definition = VmDefinition.parse(self._store.read(vm.fsverity, vm.length))
            except VmgateError:
                continue  # the gate refuses it, and says so
            for disk in definition.based:
                used.setdefault(disk.image, []).append(vm.name)
        images: list[Json] = [
            {**image.members(), "vms": [*dict.fromkeys(used.get(image.fsverity, ()))]}
            for image in (content.images if content else ())
        ]
        return {"images": images, "number": content.number if content else 0, "refused": self._authority.refusal}

    def _watched(self, act: str, subject: str, actor: str) -> _Recorded:
        return _Recorded(self._outside, act, subject, actor)

    def _allowed(self) -> Generation:
        generation = self._require_active()
        if LOCAL_VMS not in self._policy(generation).allow:
            raise PolicyRefused(
                "nothing was signed",
                cause=f"the signed security policy has no {LOCAL_VMS}: all VMs of this host come by release",
                remedy="a release of the platform that allows it",
            )
        return generation

    def _now(self) -> LocalSet:
        found = self._authority.vouched()
        return found.content if found else LocalSet(number=1, time=0, actor="nobody")

    def _find(self, now: LocalSet, name: str) -> LocalVm:
        vm = now.vm(name)
        if vm is None:
            raise NotFound(
                f"there is no local VM {name[:63]!r}",
                cause=self._authority.refusal or "nobody made it on this host; a release's VMs change by release",
                remedy="see `vmgate vm list`",
            )
        return vm

    def _defaults(self) -> dict[str, Json]:
        path = self._outside.paths.vm_defaults
        try:
            untrusted = durable.read_file(path, LIMIT)
        except Missing:
            return {}
        return read_defaults(read_table(untrusted, path))

    def _read(self, name: str, written: Written, base: Mapping[str, Json], now: LocalSet) -> VmDefinition:
        values = decode(written.values.encode(), MAX_VALUES, "the command's values") if written.values else {}
        known = {image.name: image for image in now.images}
        known |= {f"sha256:{image.fsverity}": image for image in now.images}
        table = read_table(written.text.encode(), PurePath("the definition"))
        if written.images:
            disks: list[Json] = [
                {"name": f"disk{number}", "image": image, "class": "readonly"}
                for number, image in enumerate(written.images)
            ]
            values["disks"] = disks
        if (table.has("name") and table.take("name") != name) or values.get("name", name) != name:
            raise _unfit("the definition has another name than the VM", "use one name")
        for key, value in values.items():
            if table.has(key):
                table.take(key)
            table = table.with_value(key, value)
        table = table.with_value("name", name)
        if not (table.has("disks") or base.get("disks")):
            raise BadRequest("no VM was made", cause="it has no disk", remedy="use --image, --iso or -f")
        definition = read_definition(table.completed(base), known)
        if not set(definition.guardians) <= LOCAL_GUARDIANS:
            raise _unfit("a local VM has the guardians tpm and recovery at most", "leave the others out")
        return definition

    def _require_free(self, definition: VmDefinition, generation: Generation, now: LocalSet) -> None:
        theirs = published(self._plan, generation)
        for what, value, taken in (
            ("name", definition.name, theirs.names),
            ("UUID", definition.uuid, theirs.uuids),
            *(("image", disk.image, theirs.images) for disk in definition.based),
        ):
            if value in taken:
                raise _taken(f"{taken[value]} has that {what}", f"choose another {what}")
        if any(vm.uuid == definition.uuid and vm.name != definition.name for vm in now.vms):
            raise _taken("another VM of this host has that UUID", "leave uuid out: one is made")

    def _sign(
        self, definition: VmDefinition, salt: bytes, generation: Generation, actor: str, act: str
    ) -> dict[str, Json]:
        # Durable before anything names it; what nothing names goes with the next update.
        stored = self._store.add_bytes(definition.encode())

        def change(now: LocalSet) -> LocalSet:
            vm = LocalVm(
                name=definition.name,
                uuid=definition.uuid,
                fsverity=stored.fsverity,
                length=stored.length,
                number=now.number,
                salt=salt,
            )
            others = (other for other in now.vms if other.name != vm.name)
            return replace(now, vms=tuple(sorted((*others, vm), key=lambda one: one.name)))

        signed = self._authority.sign(
            change, generation.platform, actor, act=act, subject=definition.name, fsverity=stored.fsverity
        )
        return {"name": definition.name, "number": signed.number, "definition": definition.members()}


class _Recorded(AbstractContextManager[None]):
    """Records what is refused within a block; what fails while it is signed has its own record."""

    def __init__(self, outside: Outside, act: str, subject: str, actor: str) -> None:
        self._outside = outside
        self._act, self._subject, self._actor = act, subject, actor

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PolicyRefused | LocalTaken | LocalUnfit):
            self._outside.audit.append(
                "local-sign", "refused", self._subject[:120] or "nobody", self._actor, act=self._act, code=error.code,
                cause=error.cause,
            )  # fmt: skip


def _sorted_images(images: Iterable[LocalImage]) -> tuple[LocalImage, ...]:
    return tuple(sorted(images, key=lambda image: image.name))


def _taken(cause: str, remedy: str) -> LocalTaken:
    return LocalTaken("nothing was signed", cause=cause, remedy=remedy)


def _unfit(cause: str, remedy: str) -> LocalUnfit:
    return LocalUnfit("nothing was signed", cause=cause, remedy=remedy)
