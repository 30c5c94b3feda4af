# SPDX-License-Identifier: Apache-2.0
"""The keys of this host's VMs: made at a VM's first start, wrapped by the host's key, which the TPM opens or not.

Only wrapped keys lie on the disk. A key that the TPM does not open is a start that does not happen. This module does
not hand keys to libvirt (``agent.launch`` does) and seals nothing anew (``agent.resealing`` does).
"""

from __future__ import annotations

import os

from agent.errors import StateCopiedBack
from agent.paths import HostPaths
from content import durable
from content.errors import Missing
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
    """

    def __init__(self, paths: HostPaths, tpm: Tpm) -> None:
        self._paths = paths
        self._tpm = tpm

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
        terms = guard.Terms(
            channel=release.channel,
            epoch=release.epoch,
            key=release.policy_keys[0],
            counter=self._tpm.counter(),
            local_pcrs=local_pcrs(release),
            floor=floor,
        )
        _, sealed = guard.create(self._tpm, terms, os.urandom)
        durable.write_file(self._paths.sealed_key, sealed.encode())

    def open_host_key(self, release: Release) -> bytes:
        """Let the TPM open the host's key by a policy of the active platform release.

        Raises:
            Missing: the host has none yet.
            SealShut: this is not a state that the release signed.
        """
        sealed = SealedKey.parse(durable.read_file(self._paths.sealed_key, SealedKey.LIMIT))
        return guard.unseal(self._tpm, sealed, release.policies)

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

    def open(self, definition: VmDefinition, release: Release) -> str:
        """The secret of one VM, made at its first start; hexadecimal text of 32 bytes.

        Raises:
            SealShut: the TPM did not open the host's key.
            KeyRefused: the wrapped key is not this VM's or not of this host.
        """
        host_key = self.open_host_key(release)
        path = self._paths.vm(definition.name) / "key-tpm.json"
        try:
            wrapped = WrappedVmKey.parse(durable.read_file(path, WrappedVmKey.LIMIT))
        except Missing:
            wrapped = guard.wrap(host_key, definition.uuid, os.urandom(guard.KEY_SIZE), os.urandom)
            durable.write_file(path, wrapped.encode())
        return guard.unwrap(host_key, wrapped, definition.uuid).hex()


def local_pcrs(release: Release) -> tuple[int, ...]:
    """Where a release judges Secure Boot, its keys and what they let run must stay as they are."""
    return (SECURE_BOOT_PCR,) if release.of_kind("host-image") else ()
