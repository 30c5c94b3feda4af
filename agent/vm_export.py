# SPDX-License-Identifier: Apache-2.0
"""Writes all that a VM is to one file: definition, key, TPM and disks, signed by this host, encrypted for a recipient.

The VM stays, with its key and its TPM's identity: two hosts that run it are two VMs that pass for one, so whoever moves
it deletes it here. Starts go on meanwhile; one of this VM spoils the export and is not hindered. This module takes
nothing in (``agent.vm_import`` does).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from agent import set_stream
from agent.baselines import MAX_AK
from agent.errors import BadRequest, NotReady
from agent.launch import Launcher
from agent.outside import Outside
from agent.plan import VmPlan
from agent.purpose_signer import sign_once
from agent.set_errors import SetDisturbed, SetUnfit
from agent.set_ledger import SetLedger
from agent.vm_errors import VmRuns
from agent.vm_keys import VmKeys
from agent.vm_parts import parts_of
from agent.vms import Vms
from agent.vtpm import STATES
from content import durable
from content.errors import Missing, storage
from content.fsverity import digest_file
from content.owner import give
from content.store import ContentStore
from documents.canonical import Json
from documents.errors import VmgateError
from documents.host_state import VmTpm
from documents.local_set import LocalImage, LocalSet
from documents.recovery import RecoveryKey
from documents.vm_set import IMAGE, SignedVmSet, VmPart, VmSet
from keys.recovery import wrap
from measure.purpose import certification_of

CERTIFICATION = certification_of("VM set")
KEY_SIZE = 32
CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHost:
    """What export and import need of one host.

    Attributes:
        outside, store, vms, launcher, keys: of the host.
        turn: the launcher's.
        ledger: the numbers of sets.
        states: where libvirt keeps the states of VMs' TPMs.
    """

    outside: Outside
    store: ContentStore
    vms: Vms
    launcher: Launcher
    keys: VmKeys
    turn: AbstractContextManager[bool]
    ledger: SetLedger
    states: Path = STATES


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Gathered:
    """A VM at one moment.

    Attributes:
        vm: as it would start.
        secret: its key.
        endorsement: of its TPM.
        asked: how often libvirt had asked for it.
        number: of the set.
        parts: its files by their names in the set.
    """

    vm: VmPlan
    secret: str
    endorsement: str
    asked: int
    number: int
    parts: Mapping[str, Path]


class VmExport:
    """Of one host.

    Args:
        host: see ``SetHost``.
    """

    def __init__(self, host: SetHost) -> None:
        self._host = host

    def export(
        self, name: str, path: Path, untrusted_recipient: bytes, actor: str, uid: int, local: LocalSet | None
    ) -> dict[str, Json]:
        """Write a VM to a file.

        Args:
            name: of the VM, which is off.
            path: of the new file, absolute.
            untrusted_recipient: a ``vmgate.recovery-key``.
            actor: for the record.
            uid: who asks, and gets the file.
            local: what the local authority vouches for.

        Raises:
            SetUnfit: its definition lets nobody have its key, or a disk is not as a clean stop left it.
            VmRuns: it is not off.
            SetDisturbed: somebody started it meanwhile; there is no file.
            VmgateError: it failed; there is no file.
        """
        recipient = RecoveryKey.parse(untrusted_recipient)
        _require_place(path, uid)
        made = self._gather(name, local)
        uuid_, set_id = made.vm.definition.uuid, str(uuid.uuid4())
        about = {"uuid": uuid_, "set": set_id, "number": str(made.number), "recipient": recipient.id}
        audit = self._host.outside.audit
        audit.append("vm-export", "started", name, actor, **about)
        try:
            signed = self._sign(made, set_id, local)
            self._write(path, recipient, set_id, signed, made)
            if uid:
                give(path, pwd.getpwuid(uid).pw_name)
        except VmgateError as error:
            audit.append("vm-export", "failed", name, actor, code=error.code, cause=error.cause, **about)
            raise
        audit.append("vm-export", "done", name, actor, endorsement=made.endorsement, **about)
        return {
            "name": name,
            "uuid": uuid_,
            "number": made.number,
            "set": set_id,
            "endorsement": made.endorsement,
            "signer": hashlib.sha256(signed.ak).hexdigest(),
            "recipient": recipient.id,
            "parts": [*made.parts],
        }

    def _gather(self, name: str, local: LocalSet | None) -> _Gathered:
        host = self._host
        vm = host.vms.find(name)
        if "recovery" not in vm.definition.guardians:
            raise SetUnfit(
                f"{name} was not exported",
                cause="its definition does not name the guardian recovery: nobody may have its key",
                remedy="a release, or `vmgate vm edit`, that names it",
            )
        if not host.vms.is_off(name):
            raise _runs(name)
        with host.turn:
            if name in host.launcher.running_now():
                raise _runs(name)
            try:
                secret = host.keys.reopen(vm.definition, vm.platform)
                noted = VmTpm.parse(durable.read_file(host.outside.paths.vm(name) / "vtpm.json", VmTpm.LIMIT))
            except Missing as error:
                raise NotReady(
                    f"{name} was not exported", cause="it was never started here, and keeps nothing",
                    remedy=f"`vmgate vm start {name}`",
                ) from error  # fmt: skip
            parts = parts_of(vm, secret, host.launcher.disks.ledger, host.states)
            images = {f"{IMAGE}{image.name}": host.store.path(image.fsverity) for image in _images(vm, local)}
            return _Gathered(
                vm=vm, secret=secret, endorsement=noted.endorsement, asked=host.launcher.asked[name],
                number=host.ledger.next(vm.definition.uuid), parts=dict(sorted((parts | images).items())),
            )  # fmt: skip

    def _sign(self, made: _Gathered, set_id: str, local: LocalSet | None) -> SignedVmSet:
        parts = []
        for name, path in made.parts.items():
            found = digest_file(path)
            parts.append(VmPart(name=name, length=found.length, fsverity=found.fsverity))
        content = VmSet(
            id=set_id,
            number=made.number,
            time=max(0, self._host.outside.clock()),
            authority=made.vm.authority,
            definition=made.vm.definition.encode(),
            key=bytes.fromhex(made.secret),
            endorsement=made.endorsement,
            parts=tuple(parts),
            images=_images(made.vm, local),
        ).encode()
        VmSet.parse(content)
        outside = self._host.outside
        signature = sign_once(outside.tpm, made.vm.platform, content, CERTIFICATION, "nothing was exported")
        return SignedVmSet(
            content=content,
            ak=durable.read_file(outside.paths.ak, MAX_AK),
            signature=signature.signature,
            public=signature.public,
            channel=signature.channel,
            key=signature.key,
            attest=signature.attest,
            certification=signature.certification,
        )

    def _write(self, path: Path, recipient: RecoveryKey, set_id: str, signed: SignedVmSet, made: _Gathered) -> None:
        key = os.urandom(KEY_SIZE)
        head = set_stream.encode_head(wrap(recipient, set_id, key, os.urandom))
        with durable.Writer(durable.temporary(path.parent)) as writer:
            writer.write(head)
            for piece in set_stream.seal(key, head, _plain(signed, made.parts)):
                writer.write(piece)
            self._require_undisturbed(made, signed)
            writer.commit(path)

    def _require_undisturbed(self, made: _Gathered, signed: SignedVmSet) -> None:
        """The same bytes twice, and no start since the first look: then they are of one moment."""
        name = made.vm.definition.name
        for part in VmSet.parse(signed.content).parts:
            if digest_file(made.parts[part.name]).fsverity != part.fsverity:
                raise _disturbed(name)
        with self._host.turn:
            if self._host.launcher.asked[name] != made.asked:
                raise _disturbed(name)


def _images(vm: VmPlan, local: LocalSet | None) -> tuple[LocalImage, ...]:
    """The images of a local VM, which come by no release."""
    if vm.local is None or local is None:
        return ()
    wanted = {disk.image for disk in vm.definition.based}
    return tuple(image for image in local.images if image.fsverity in wanted)


def _plain(signed: SignedVmSet, parts: Mapping[str, Path]) -> Iterator[bytes]:
    manifest = signed.encode()
    yield len(manifest).to_bytes(set_stream.LENGTH, "big") + manifest
    for part in VmSet.parse(signed.content).parts:
        yield from _bytes_of(parts[part.name], part.length)


def _bytes_of(path: Path, length: int) -> Iterator[bytes]:
    with storage("the part was not read", path), path.open("rb") as file:
        while length:
            found = file.read(min(CHUNK, length))
            if not found:
                raise _disturbed(path.name)
            length -= len(found)
            yield found


def _require_place(path: Path, uid: int) -> None:
    """A new file in a folder of whoever asks: nobody writes by the agent where they could not write themselves."""
    if not path.is_absolute() or ".." in path.parts:
        raise BadRequest("nothing was exported", cause="the path is not absolute", remedy="use the vmgate command")
    try:
        status = path.parent.lstat()
    except OSError as error:
        raise BadRequest("nothing was exported", cause=f"{path.parent}: {error.strerror}", remedy="make it") from error
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or (uid and (status.st_uid != uid or shared)):
        raise BadRequest(
            "nothing was exported",
            cause=f"{path.parent} is no folder of your own",
            remedy="choose another, or use sudo",
        )
    if os.path.lexists(path):
        raise BadRequest("nothing was exported", cause=f"{path} is there already", remedy="choose another name")


def _runs(name: str) -> VmRuns:
    return VmRuns(f"{name} was not exported", cause="it runs", remedy=f"`vmgate vm stop {name}`")


def _disturbed(name: str) -> SetDisturbed:
    return SetDisturbed(
        f"{name} was not exported", cause="it was started or changed meanwhile", remedy="stop it and try again"
    )
