# SPDX-License-Identifier: Apache-2.0
"""The recovery copies of VM keys: made at a start for each VM whose signed definition names the guardian ``recovery``.

Anybody can make a copy for a public key, so two things say where one came from. The host's key vouches for the public
half (``keys.recovery.seal``): another one on the disk gets no copy. The audit trail names the digest of each VM's
newest copy: an older one, or one from elsewhere, is not taken for it. This module opens no copy.
"""

from __future__ import annotations

import hashlib
import logging
import os

from agent.audit import AuditTrail, records
from agent.errors import CopyUnknown
from agent.paths import HostPaths
from content import durable
from content.errors import ContentError, Missing, TooLarge
from documents.definition import VmDefinition
from documents.errors import DocumentError
from documents.host_state import WrappedVmKey
from documents.recovery import RecoveryKey
from keys import recovery

log = logging.getLogger(__name__)

EVENT = "recovery-copy"


class RecoveryCopies:
    """Keeps the recovery copies of one host; its user holds the lock that judges starts one after the other.

    Args:
        paths: of this host.
        audit: told of each copy, before it is written.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail) -> None:
        self._paths = paths
        self._audit = audit
        self._recorded: dict[str, set[str]] | None = None

    def installed(self) -> RecoveryKey | None:
        """The public half that lies on this host; ``keys.recovery.verify_seal`` says whether it was installed."""
        try:
            return RecoveryKey.parse(durable.read_file(self._paths.recovery_key, RecoveryKey.LIMIT))
        except Missing:
            return None

    def install(self, key: RecoveryKey, host_key: bytes) -> None:
        """Put a public half, vouched for by the host's key, in the place of any other. The caller recorded it."""
        durable.make_directory(self._paths.recovery_key.parent)
        durable.write_file(self._paths.recovery_key, recovery.seal(key, host_key).encode())

    def keep(self, definition: VmDefinition, vm_key: bytes, host_key: bytes) -> None:
        """See that a VM's key has its copy, if its definition names the guardian and the host has a recovery key.

        Raises:
            RecoveryKeyUnknown: the host's key does not vouch for the public half.
            CopyUnknown: the copy is of another key of this VM, which may be the right one.
            ContentError: it could not be made durable.
        """
        installed = self.installed() if "recovery" in definition.guardians else None
        if installed is None:
            return
        recovery.verify_seal(installed, host_key)
        stored = self._readable(definition)
        if stored is not None and self._is_recorded(definition, stored):
            if stored.check != recovery.check_value(vm_key, definition.uuid):
                raise CopyUnknown(
                    f"the key of {definition.name} was not used",
                    cause="its recovery copy is of another key",
                    remedy="if key-tpm.json is older, `vmgate recovery use FILE`; else remove key-recovery.json",
                )
            if stored.key == installed.id:
                return
        copy = recovery.wrap(installed, definition.uuid, vm_key, os.urandom)
        self._tell("started", definition, copy)
        try:
            durable.write_file(self._paths.recovery_copy(definition.name), copy.encode())
        except ContentError:
            self._tell("failed", definition, copy)
            raise
        self._tell("done", definition, copy)

    def _readable(self, definition: VmDefinition) -> WrappedVmKey | None:
        """A VM's copy; None also for what is none: it is made anew."""
        try:
            return self.stored(definition)
        except (DocumentError, TooLarge) as error:
            log.warning("the recovery copy of %s is made anew: %s", definition.name, error)
            return None

    def stored(self, definition: VmDefinition) -> WrappedVmKey | None:
        """A VM's copy as it lies on the disk; None for none. Not verified."""
        try:
            path = self._paths.recovery_copy(definition.name)
            return WrappedVmKey.parse(durable.read_file(path, WrappedVmKey.LIMIT))
        except Missing:
            return None

    def require_none(self, definition: VmDefinition) -> None:
        """Before a VM gets a new key: require that no copy of an old one waits to be opened.

        Raises:
            CopyUnknown: one does.
        """
        if self.stored(definition) is not None:
            raise CopyUnknown(
                f"no new key was made for {definition.name}",
                cause="its key-tpm.json is gone, and a recovery copy of its key is there",
                remedy="`vmgate recovery use FILE`; to give the old key up, remove key-recovery.json as well",
            )

    def verify(self, definition: VmDefinition, copy: WrappedVmKey) -> None:
        """Require that a copy is the newest that this host made of this VM's key.

        Raises:
            CopyUnknown: it is older, or was made elsewhere.
        """
        if copy.uuid != definition.uuid or not self._is_recorded(definition, copy):
            raise CopyUnknown(
                f"the recovery copy of {definition.name} was refused",
                cause="it is not the newest that the audit trail of this host names",
                remedy="put back the newest key-recovery.json of this VM",
            )

    def _is_recorded(self, definition: VmDefinition, copy: WrappedVmKey) -> bool:
        if self._recorded is None:
            self._recorded = {}
            for record in records(self._paths.audit):
                if record.event == EVENT:
                    self._note(record.subject, record.outcome, dict(record.details).get("copy", ""))
        return digest(copy) in self._recorded.get(definition.name, set())

    def _tell(self, outcome: str, definition: VmDefinition, copy: WrappedVmKey) -> None:
        self._audit.append(EVENT, outcome, definition.name, "agent", copy=digest(copy), key=copy.key)
        if self._recorded is not None:
            self._note(definition.name, outcome, digest(copy))

    def _note(self, name: str, outcome: str, copy: str) -> None:
        """A cut after ``started`` leaves either copy on the disk; only ``done`` says that the one before is gone."""
        if self._recorded is not None:
            before = self._recorded.get(name, set())
            self._recorded[name] = {copy} if outcome == "done" else before | {copy}


def digest(copy: WrappedVmKey) -> str:
    """What a copy is known by: SHA-256 of its bytes, hexadecimal."""
    return hashlib.sha256(copy.encode()).hexdigest()
