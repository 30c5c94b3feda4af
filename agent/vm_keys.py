# SPDX-License-Identifier: Apache-2.0
"""The keys of this host's VMs: made at a VM's first start, wrapped by the host's key, which the TPM opens or not.

Only wrapped keys lie on the disk. A key that the TPM does not open is a start that does not happen. This module does
not hand keys to libvirt (``agent.launch`` does) and seals nothing anew (``agent.resealing`` does).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.errors import StateCopiedBack
from agent.key_memory import KeyMemory, KeyTerms
from agent.paths import HostPaths
from agent.recovery_copies import RecoveryCopies
from content import durable
from content.errors import Missing, storage
from documents.definition import VmDefinition
from documents.host_state import Generation, SealedKey, WrappedVmKey
from documents.release import Release
from documents.sealed import SealedFloor
from measure import guard
from measure.pcr import SECURE_BOOT_PCR
from measure.tpm import Tpm


class VmKeys:
    """Opens the keys of VMs.

    Args:
        paths: of the host.
        tpm: holds the host's key sealed.
        copies: keeps recovery copies; None for a host without.
    """

    def __init__(self, paths: HostPaths, tpm: Tpm, copies: RecoveryCopies | None = None) -> None:
        self._paths = paths
        self._tpm = tpm
        self._copies = copies
        self._memory = KeyMemory()

    def ready(self) -> bool:
        """Whether the host has a sealed key."""
        return self._paths.sealed_key.exists()

    def make_host_key(self, release: Release, floor: SealedFloor | None = None) -> None:
        """Make and seal the host's key for the policies of a platform release, unless there is one.

        Args:
            release: the platform's.
            floor: to be sealed with it.

        Raises:
            SealEmpty: the platform was not measured.
        """
        if self.ready():
            return
        durable.make_directory(self._paths.sealed_key.parent)
        durable.write_file(self._paths.sealed_key, self._seal_new(release, floor).encode())

    def fresh_host_key(self, release: Release, floor: SealedFloor | None = None) -> SealedKey:
        """A new host key that opens in this state; nothing is written (``put_host_key`` does).

        Raises:
            SealShut: this is not a state that the release signed.
            SealEmpty: the platform was not measured.
        """
        sealed = self._seal_new(release, floor)
        guard.unseal(self._tpm, sealed, release.policies)
        return sealed

    def put_host_key(self, sealed: SealedKey) -> None:
        """Put a host key in the place of one that this TPM never opens."""
        self.forget()
        durable.make_directory(self._paths.sealed_key.parent)
        durable.write_file(self._paths.sealed_key, sealed.encode())

    def _seal_new(self, release: Release, floor: SealedFloor | None) -> SealedKey:
        terms = guard.Terms(
            channel=release.channel,
            epoch=release.epoch,
            key=release.policy_keys[0],
            counter=self._tpm.counter(),
            local_pcrs=local_pcrs(release),
            floor=floor,
        )
        return guard.create(self._tpm, terms, os.urandom)[1]

    def open_host_key(self, release: Release) -> bytes:
        """Let the TPM open the host's key by a policy of the active platform release.

        Raises:
            Missing: the host has none yet.
            SealShut: this is not a state that the release signed.
        """
        stored = durable.read_file(self._paths.sealed_key, SealedKey.LIMIT)
        sealed = SealedKey.parse(stored)
        with self._tpm.lock:
            self._memory.forget()
            state = self._tpm.read_pcrs("sha256", _asked(sealed, release))
            host_key = guard.unseal(self._tpm, sealed, release.policies)
            self._memory.keep(host_key, _terms(stored, release, state))
        return host_key

    def forget(self) -> None:
        """Keep the host's key in memory no longer."""
        with self._tpm.lock:
            self._memory.forget()

    def _host_key(self, release: Release, state: Mapping[int, bytes]) -> bytes:
        """The host's key, from memory if the TPM opened it on the terms of this moment."""
        stored = durable.read_file(self._paths.sealed_key, SealedKey.LIMIT)
        asked = _asked(SealedKey.parse(stored), release)
        with self._tpm.lock:
            known = {index: state[index] for index in asked if index in state}
            kept = self._memory.recall(_terms(stored, release, known)) if len(known) == len(asked) else None
        return kept or self.open_host_key(release)

    def require_not_below(self, generation: Generation) -> None:
        """Require that no active release is below the floor that was sealed with the key, which opens.

        Raises:
            StateCopiedBack: one is.
        """
        sealed = SealedKey.parse(durable.read_file(self._paths.sealed_key, SealedKey.LIMIT))
        lowest = dict(sealed.floor.releases) if sealed.floor else {}
        for release in generation.parsed():
            if release.number < lowest.get(release.channel, 0):
                raise StateCopiedBack(
                    f"{release.channel} {release.number} was refused",
                    cause=f"this host has confirmed {lowest[release.channel]} and shut out what is older",
                    remedy="`vmgate update apply` brings the newest; find out who copied back /var/lib/vmgate",
                )

    def open(self, definition: VmDefinition, release: Release, state: Mapping[int, bytes]) -> str:
        """The secret of one VM, made at its first start; hexadecimal text of 32 bytes.

        Args:
            definition: of the VM.
            release: the active platform release.
            state: registers of the SHA-256 bank, as the TPM gave them for this start.

        Raises:
            SealShut: the TPM did not open the host's key.
            KeyRefused: the wrapped key is not this VM's or not of this host.
            CopyUnknown, RecoveryKeyUnknown: see ``RecoveryCopies.keep``.
        """
        host_key = self._host_key(release, state)
        path = self._paths.wrapped_key(definition.name)
        try:
            wrapped = WrappedVmKey.parse(durable.read_file(path, WrappedVmKey.LIMIT))
        except Missing:
            if self._copies is not None:
                self._copies.require_none(definition)
            wrapped = guard.wrap(host_key, definition.uuid, os.urandom(guard.KEY_SIZE), os.urandom)
            durable.write_file(path, wrapped.encode())
        vm_key = guard.unwrap(host_key, wrapped, definition.uuid)
        if self._copies is not None:
            self._copies.keep(definition, vm_key, host_key)
        return vm_key.hex()

    def reopen(self, definition: VmDefinition, release: Release) -> str:
        """The secret of a VM that has one; never makes one.

        Raises:
            Missing: the VM or the host has no key.
            SealShut, KeyRefused: see ``open``.
        """
        wrapped = WrappedVmKey.parse(durable.read_file(self._paths.wrapped_key(definition.name), WrappedVmKey.LIMIT))
        return guard.unwrap(self.open_host_key(release), wrapped, definition.uuid).hex()

    def drop(self, name: str) -> None:
        """Give up a VM's key with its recovery copy: what was encrypted with it is lost. Repeat it after a cut."""
        durable.remove(self._paths.wrapped_key(name))
        durable.remove(self._paths.recovery_copy(name))

    def copy(self, definition: VmDefinition, host_key: bytes) -> bool:
        """See that a VM's key has its recovery copy; False where the VM has no key yet.

        Raises:
            KeyRefused: the wrapped key is not this VM's or not of this host.
            CopyUnknown, RecoveryKeyUnknown: see ``RecoveryCopies.keep``.
        """
        try:
            wrapped = WrappedVmKey.parse(
                durable.read_file(self._paths.wrapped_key(definition.name), WrappedVmKey.LIMIT)
            )
        except Missing:
            return False
        if self._copies is not None:
            self._copies.keep(definition, guard.unwrap(host_key, wrapped, definition.uuid), host_key)
        return True

    def names(self) -> tuple[str, ...]:
        """The VMs that have a wrapped key here.

        Raises:
            ContentError: the folders cannot be read.
        """
        folder = self._paths.vms
        with storage("the folders of VMs were not listed", folder):
            found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return tuple(name for name in found if self._paths.wrapped_key(name).is_file())

    def shred(self, name: str) -> None:
        """Remove a VM's wrapped keys, the recovery copy too: what they open opens nowhere here any more.

        Raises:
            ContentError: it failed; another try may follow.
        """
        durable.remove(self._paths.recovery_copy(name))
        durable.remove(self._paths.wrapped_key(name))

    def put(self, definition: VmDefinition, vm_key: bytes, host_key: bytes) -> None:
        """Wrap a VM's key that came back with the host's, in the place of what this host cannot open."""
        wrapped = guard.wrap(host_key, definition.uuid, vm_key, os.urandom)
        durable.write_file(self._paths.wrapped_key(definition.name), wrapped.encode())


def local_pcrs(release: Release) -> tuple[int, ...]:
    """Where a release judges Secure Boot, its keys and what they let run must stay as they are."""
    return (SECURE_BOOT_PCR,) if release.of_kind("host-image") else ()


def _asked(sealed: SealedKey, release: Release) -> list[int]:
    """The registers that the release's policies and the sealed key are about."""
    return sorted({index for policy in release.policies for index, _ in policy.pcrs} | set(sealed.local_pcrs))


def _terms(stored: bytes, release: Release, state: Mapping[int, bytes]) -> KeyTerms:
    return KeyTerms(sealed=stored, policies=release.policies, pcrs=tuple(sorted(state.items())))
