# SPDX-License-Identifier: Apache-2.0
"""Answers ``vmgate recovery``: installs a recovery key's public half, and takes VM keys back that its holder opened.

The private half and its passphrase never come here: the command opens the copies in its own process. What is taken
back is wrapped by this host's key, made anew where this TPM will never open the one on the disk. That opens keys, not
the gate: a host key opens only in a state that the active release signed, and each start is judged as ever. Each step
is one durable write, no copy is touched, and the same call completes what a cut left.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.audit import AuditTrail
from agent.audit_key import AuditKey
from agent.errors import CopyUnknown, NotFound, RecoveryKeyThere
from agent.paths import HostPaths
from agent.recovery_copies import RecoveryCopies, digest
from agent.resealing import Resealing
from agent.vm_keys import VmKeys
from content import durable
from content.errors import Missing
from documents.canonical import Json
from documents.definition import VmDefinition
from documents.errors import VmgateError
from documents.host_state import Generation, SealedKey
from documents.recovery import RecoveredKey, RecoveredKeys, RecoveryKey
from documents.release import Release
from keys.errors import RecoveryKeyOther
from keys.recovery import check_value
from measure.errors import NotForThisTpm


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeys:
    """The keys of one host.

    Attributes:
        vms: wraps and unwraps VM keys.
        copies: the recovery copies.
        audit: signs the audit trail.
        resealing: knows the floor that a new host key is sealed with.
    """

    vms: VmKeys
    copies: RecoveryCopies
    audit: AuditKey
    resealing: Resealing


class Recovery:
    """The recovery of one host.

    Args:
        paths: of this host.
        keys: of this host.
        audit: its trail.
        definitions: gives the VMs of the active releases.
        require_active: gives the active generation, or raises ``NotReady``.
        turn: held while starts are judged.
    """

    def __init__(
        self,
        paths: HostPaths,
        keys: HostKeys,
        audit: AuditTrail,
        definitions: Callable[[], Iterable[VmDefinition]],
        require_active: Callable[[], Generation],
        turn: AbstractContextManager[bool],
    ) -> None:
        self._paths = paths
        self._keys = keys
        self._copies = keys.copies
        self._audit = audit
        self._definitions = definitions
        self._require_active = require_active
        self._turn = turn

    def show(self) -> dict[str, Json]:
        """The recovery key that this host has; an empty id for none. No secret."""
        installed = self._copies.installed()
        return {"id": installed.id if installed else "", "created": installed.created if installed else 0}

    def install(self, untrusted: bytes, actor: str, *, instead: str = "") -> dict[str, Json]:
        """Install a public half, and make the copies of all VMs that have a key and name the guardian.

        Args:
            untrusted: a ``vmgate.recovery-key``.
            actor: who does.
            instead: id of the key that it replaces; empty for none.

        Raises:
            RecoveryKeyThere: another one is there than ``instead``.
            SealShut, NotForThisTpm: the host's key does not open; nothing was changed.
        """
        key = replace(RecoveryKey.parse(untrusted), seal=b"")
        platform = self._require_active().platform
        with self._turn:
            installed = self._copies.installed()
            if installed is not None and installed.id not in (key.id, instead):
                raise RecoveryKeyThere(
                    "the recovery key was not installed",
                    cause=f"this host has {installed.id[:16]}",
                    remedy="`--replace` replaces it",
                )
            with self._recorded("recovery-key", actor, key=key.id, before=installed.id if installed else ""):
                host_key = self._keys.vms.open_host_key(platform)
                self._copies.install(key, host_key)
                done, failed = self._copy_all(host_key)
        return {"id": key.id, "copied": done, "failed": failed}

    def _copy_all(self, host_key: bytes) -> tuple[list[Json], list[Json]]:
        """Make the copies of all VMs; one that cannot be made is told and keeps no other from being made."""
        done: list[Json] = []
        failed: list[Json] = []
        for definition in self._guarded():
            try:
                done += [definition.name] if self._keys.vms.copy(definition, host_key) else []
            except VmgateError as error:
                failed.append({"name": definition.name, "problem": f"{error.cause} ({error.code})"})
        return done, failed

    def copies(self, purpose: str, actor: str) -> dict[str, Json]:
        """The copies, for whom can open them. Recorded first; changes nothing.

        Args:
            purpose: ``test`` or ``use``, for the record.
            actor: who asks.

        Raises:
            NotFound: this host has no recovery key.
        """
        with self._turn:
            installed = self._require_installed()
            self._audit.append("recovery-copies", "done", "host", actor, key=installed.id, purpose=purpose)
            return {"id": installed.id, "vms": [self._told(definition) for definition in self._definitions()]}

    def use(self, untrusted: bytes, actor: str) -> dict[str, Json]:
        """Wrap VM keys that the recovery key's holder opened with this host's key.

        Args:
            untrusted: ``vmgate.recovered-keys``.
            actor: who does.

        Raises:
            RecoveryKeyOther, CopyUnknown: something does not fit; nothing was changed.
            SealShut: the host is in no state that the release signed, or its key was shut out; nothing was changed.
        """
        given = RecoveredKeys.parse(untrusted)
        platform = self._require_active().platform
        with self._turn:
            installed = self._require_installed()
            if given.recovery != installed.id:
                raise RecoveryKeyOther(
                    "no VM key was taken back",
                    cause=f"they were opened with {given.recovery[:16]}, and this host has {installed.id[:16]}",
                    remedy="take the file of this host's recovery key",
                )
            found = {definition.uuid: definition for definition in self._guarded()}
            wanted = [(self._checked(item, found.get(item.uuid)), item.key) for item in given.keys]
            names = [definition.name for definition, _ in wanted]
            with self._recorded("recovery-use", actor, key=installed.id, vms=" ".join(names)):
                host_key = self._host_key(platform)
                self._copies.install(installed, host_key)
                for definition, vm_key in wanted:
                    self._keys.vms.put(definition, vm_key, host_key)
        told: list[Json] = [*names]
        return {"id": installed.id, "recovered": told}

    def _guarded(self) -> list[VmDefinition]:
        return [definition for definition in self._definitions() if "recovery" in definition.guardians]

    def _told(self, definition: VmDefinition) -> dict[str, Json]:
        """One VM: its copy's text, or why there is none, or why it is not taken."""
        copy, text, problem = None, "", ""
        try:
            copy = self._copies.stored(definition) if "recovery" in definition.guardians else None
            if copy is not None:
                self._copies.verify(definition, copy)
                text = copy.encode().decode()
        except VmgateError as error:
            problem = f"{error.cause} ({error.code})"
        return {
            "name": definition.name,
            "uuid": definition.uuid,
            "guarded": "recovery" in definition.guardians,
            "started": self._paths.wrapped_key(definition.name).exists(),
            "copy": text,
            "problem": problem,
        }

    def _checked(self, item: RecoveredKey, definition: VmDefinition | None) -> VmDefinition:
        """The VM of a key, if that is what this host's newest copy of it holds."""
        copy = self._copies.stored(definition) if definition else None
        if definition is None or copy is None:
            raise CopyUnknown(
                f"the key of VM {item.uuid} was not taken back",
                cause="no VM of the active releases has such a copy",
                remedy="see `vmgate recovery test FILE`",
            )
        self._copies.verify(definition, copy)
        if digest(copy) != item.copy or not hmac.compare_digest(copy.check, check_value(item.key, item.uuid)):
            raise CopyUnknown(
                f"the key of {definition.name} was not taken back",
                cause="it is not what its recovery copy holds",
                remedy="run the command again",
            )
        return definition

    def _require_installed(self) -> RecoveryKey:
        installed = self._copies.installed()
        if installed is None:
            raise NotFound(
                "there is no recovery key", cause="none was installed on this host", remedy="`vmgate recovery create`"
            )
        return installed

    def _host_key(self, release: Release) -> bytes:
        """The host's key; a new one where there is none, or where this TPM will never open it.

        A key that this TPM refuses for the state it is in, or because it was shut out, is left alone.
        """
        vms = self._keys.vms
        try:
            return vms.open_host_key(release)
        except (Missing, NotForThisTpm):
            fresh = vms.fresh_host_key(release, self._keys.resealing.first_floor())
        # The audit key goes before: the host's key is what a cut is completed by.
        for path in (self._paths.sealed_key, self._paths.audit_key):
            _set_aside(path)
        self._keys.audit.make_anew(release)
        vms.put_host_key(fresh)
        return vms.open_host_key(release)

    @contextmanager
    def _recorded(self, event: str, actor: str, **details: str) -> Iterator[None]:
        """Record before the act, and how it went."""
        self._audit.append(event, "started", "host", actor, **details)
        try:
            yield
        except VmgateError as error:
            self._audit.append(event, "failed", "host", actor, code=error.code, cause=error.cause)
            raise
        self._audit.append(event, "done", "host", actor, **details)


def _set_aside(path: Path) -> None:
    """Keep a copy of what the TPM of before can open, should it come back."""
    try:
        old = durable.read_file(path, SealedKey.LIMIT)
    except Missing:
        return
    durable.write_file(path.with_name(f"{path.stem}-{hashlib.sha256(old).hexdigest()[:12]}.json"), old)
