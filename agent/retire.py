# SPDX-License-Identifier: Apache-2.0
"""Hands a host back: what vmgate brought goes, keys first, so that nobody can read what a cut leaves of the rest.

Each step can be repeated, and the same call completes what a cut left. From the first step on the host counts as not
set up: its trust anchor lies under another name, which goes last. The audit trail stays, with what its last signature
is verified by. This module asks nobody whether that is wanted (``vmgate.commands.retire`` does).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.audit import AuditTrail
from agent.audit_key import AuditKey
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.porter import Porter
from agent.retire_look import KEPT_KEYS, Belongings
from agent.vm_errors import VmRuns
from agent.vmm_images import VmmImages
from agent.vtpm import STATES
from content import durable
from content.errors import Missing, storage
from content.store import ContentStore
from documents.audit import AuditHead
from documents.errors import DocumentError, VmgateError
from documents.host_state import SealedKey
from documents.release import Release
from hypervisor.errors import DomainMissing
from hypervisor.libvirt import Hypervisor
from measure.guard import shut_all
from measure.tpm import Tpm

log = logging.getLogger(__name__)

ACTOR = "command retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What is left to tell.

    Attributes:
        head: of the audit trail, the last record in it.
        unsigned: why the TPM did not sign that head; empty where it did.
        flaws: what could not be removed and is worth nothing any more.
    """

    head: AuditHead
    unsigned: str
    flaws: tuple[str, ...]


def require_set_up(paths: HostPaths) -> None:
    """Require a host that was set up, or one whose retirement was cut off.

    Raises:
        NotReady: it is neither.
    """
    if not (paths.anchor.exists() or paths.retiring.exists()):
        raise NotReady("nothing was retired", cause="this host was not set up", remedy="nothing is to be done")


def require_off(found: Belongings) -> None:
    """Require that no VM runs.

    Raises:
        VmRuns: one does.
    """
    if found.running:
        raise VmRuns(
            "nothing was retired",
            cause=f"these VMs run: {', '.join(found.running[:20])}",
            remedy="start the agent and `vmgate vm stop` each, then try again",
        )


class Retirement:
    """Of one host, whose agent is stopped.

    Args:
        paths, hypervisor, tpm, audit: of the host.
        platform: the active platform release; None where there is none any more.
        states: where libvirt keeps the states of VMs' TPMs.
    """

    def __init__(
        self,
        paths: HostPaths,
        hypervisor: Hypervisor,
        tpm: Tpm,
        audit: AuditTrail,
        platform: Release | None,
        states: Path = STATES,
    ) -> None:
        self._paths = paths
        self._hypervisor = hypervisor
        self._tpm = tpm
        self._audit = audit
        self._platform = platform
        self._states = states

    def run(self, found: Belongings) -> Retired:
        """Do it.

        Raises:
            VmRuns: a VM runs; nothing was changed.
            VmgateError: a step failed; call it again.
        """
        require_off(found)
        count = str(len(found.keys))
        self._audit.append("host-retire", "started", "host", ACTOR, vms=count)
        try:
            self._give_up_keys(found)
            self._leave_libvirt(found)
            for path in found.files:
                durable.remove(path)
            flaws = self._remove_state(found)
            self._tpm.hand_back()
        except VmgateError as error:
            self._audit.append("host-retire", "failed", "host", ACTOR, vms=count, code=error.code, cause=error.cause)
            raise
        self._audit.append("host-retire", "done", "host", ACTOR, vms=count)
        unsigned = self._sign()
        # Last: from here on the host is one that was never set up.
        durable.remove(self._paths.retiring)
        return Retired(head=self._audit.head, unsigned=unsigned, flaws=flaws)

    def _give_up_keys(self, found: Belongings) -> None:
        paths = self._paths
        if paths.anchor.exists():
            durable.rename(paths.anchor, paths.retiring)
        else:
            log.info("a retirement that was cut off goes on")
        # First in the TPM: then it does not matter who copied the files before, or finds them on the disk after.
        try:
            sealed = SealedKey.parse(durable.read_file(paths.sealed_key, SealedKey.LIMIT))
        except (Missing, DocumentError):
            # A key that cannot be read does not open; still, what it was sealed to is over.
            self._tpm.raise_counter(self._tpm.counter() + 1)
        else:
            shut_all(self._tpm, sealed)
        durable.remove(paths.sealed_key)
        for name, uuid in found.keys:
            self._audit.append("vm-delete", "started", name, ACTOR, uuid=uuid)
            durable.remove(paths.recovery_copy(name))
            durable.remove(paths.wrapped_key(name))
            self._audit.append("vm-delete", "done", name, ACTOR, uuid=uuid)

    def _leave_libvirt(self, found: Belongings) -> None:
        for domain in found.domains:
            self._hypervisor.drop_secret(domain.uuid)
            try:
                self._hypervisor.undefine(domain.name)
            except DomainMissing:
                continue
        for uuid in {*(domain.uuid for domain in found.domains), *(uuid for _, uuid in found.keys)}:
            durable.remove_tree(self._states / uuid)
        for network in found.networks:
            self._hypervisor.networks.remove(network)

    def _remove_state(self, found: Belongings) -> tuple[str, ...]:
        paths = self._paths
        images = VmmImages(Porter(ContentStore(paths.store), paths.vmm), paths.vmm)
        flaws = [f"a VMM image stays mounted below {paths.vmm}; the next boot ends it" for _ in images.collect(())]
        for name in found.state:
            if paths.state / name != paths.retiring:
                _remove(paths.state / name)
        keys = paths.sealed_key.parent
        with storage("the keys were not listed", keys):
            others = [path for path in keys.iterdir() if path.name not in KEPT_KEYS] if keys.is_dir() else []
        for path in others:
            _remove(path)
        if not flaws:
            durable.remove_tree(paths.run)
        return tuple(flaws[:1])

    def _sign(self) -> str:
        if self._platform is None:
            return "the release that names the key's policies is not here any more"
        try:
            AuditKey(self._paths, self._tpm, self._audit).sign(self._platform)
        except VmgateError as error:
            return error.cause
        return ""


def _remove(path: Path) -> None:
    remove: Callable[[Path], None] = durable.remove
    if path.is_dir() and not path.is_symlink():
        remove = durable.remove_tree
    remove(path)
