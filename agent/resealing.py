# SPDX-License-Identifier: Apache-2.0
"""The host's key is sealed anew as releases and Secure Boot change: made durable first, then what is older is shut out.

A confirmed release decides (``measure.reseal``); a release that waits for a boot only adds what it will boot with. A
cut anywhere leaves a key that opens, and the next start goes on. What is sealed with the key besides, the floor, is
told to the updater, which then does not depend on its own file alone. This module opens no VM's key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.audit import AuditTrail
from agent.paths import HostPaths
from agent.vm_keys import local_pcrs
from content import durable
from content.errors import ContentError
from documents.errors import VmgateError
from documents.host_state import Floor, SealedKey
from documents.release import Release
from documents.sealed import SealedFloor
from measure import guard, reseal
from measure.errors import LogRefused, MeasureError, Pcr7Unforeseen
from measure.guard import Pcrs
from measure.pcr import SECURE_BOOT_PCR
from measure.tpm import Tpm

log = logging.getLogger(__name__)

Foresee = Callable[[Release, Release | None], tuple[Pcrs, ...]]
"""Which values the local PCRs may have with a release, given the release of this boot; see ``measure.secure_boot``."""


class Resealing:
    """Keeps the host's key sealed as the active release wants it.

    Args:
        paths: of the host.
        tpm: holds the key sealed.
        audit: told of each change.
        foresee: see ``Foresee``.
        floor: reads the floor's file.
    """

    def __init__(
        self, paths: HostPaths, tpm: Tpm, audit: AuditTrail, foresee: Foresee, floor: Callable[[], Floor]
    ) -> None:
        self._paths = paths
        self._tpm = tpm
        self._audit = audit
        self._foresee = foresee
        self._floor = floor

    def first_floor(self) -> SealedFloor:
        """The floor to be sealed with a new key: no release is confirmed yet."""
        return SealedFloor(root=self._floor().root)

    def follow(self, release: Release, note: Callable[[], None]) -> None:
        """Seal the key as a confirmed release wants it, if it is not. Safe to repeat; see ``measure.reseal``.

        Args:
            release: the platform's.
            note: extends an event into PCR 12, so that no session that an older key's policy satisfied lives on.

        Raises:
            SealShut: the key does not open in this state; nothing was changed.
            VmgateError: the TPM or the disk failed; what lies on the disk opens.
        """
        sealed = self._read()
        self._finish(sealed, release, note)
        floor = self._floor()
        wanted = reseal.Wanted(
            channel=release.channel,
            epoch=release.epoch,
            key=release.policy_keys[0],
            local_pcrs=local_pcrs(release),
            ahead=self._announced(release, sealed),
            floor=SealedFloor(root=floor.root, releases=floor.releases),
        )
        step, why = reseal.due(sealed, wanted, arrived=guard.arrived(self._tpm, sealed))
        if step is reseal.Step.NONE:
            return
        with self.recorded(why):
            kek = guard.unseal(self._tpm, sealed, release.policies)
            if step is reseal.Step.SHUT:
                sealed = guard.seal(self._tpm, kek, reseal.terms(sealed, wanted, self._tpm.counter()))
            if wanted.ahead:
                sealed = guard.seal_ahead(self._tpm, kek, sealed, wanted.ahead)
            durable.write_file(self._paths.sealed_key, sealed.encode())
            self._finish(sealed, release, note)

    def seal_ahead(self, coming: Release, now: Release) -> None:
        """Before the host waits for a boot into another release: seal the key for what that will boot with, too.

        Raises:
            Pcr7Unforeseen: what that is cannot be computed; the host would lose its key's use, so it should not boot.
            SealShut: the key does not open in this state.
            VmgateError: the TPM or the disk failed.
        """
        if not self._paths.sealed_key.exists():
            return
        sealed = self._read()
        if SECURE_BOOT_PCR not in sealed.local_pcrs:
            return
        known = {item.pcrs for item in sealed.ahead}
        states = [pcrs for pcrs in self._foresee(coming, now) if pcrs not in known]
        if not states:
            return
        with self.recorded(f"{coming.channel} {coming.number} changes Secure Boot"):
            kek = guard.unseal(self._tpm, sealed, now.policies)
            durable.write_file(self._paths.sealed_key, guard.seal_ahead(self._tpm, kek, sealed, states).encode())

    def try_to_seal_ahead(self, back: Release, now: Release) -> None:
        """The same before a way back, which must not depend on a key that does not open now."""
        try:
            self.seal_ahead(back, now)
        except MeasureError as error:
            log.warning("the host's key may stay shut after the next boot: %s", error)

    @contextmanager
    def recorded(self, why: str) -> Iterator[None]:
        """Record a change of the host's key before it is made, and how it went."""
        self._audit.append("host-key", "started", "host", "agent", why=why)
        try:
            yield
        except VmgateError as error:
            self._audit.append("host-key", "failed", "host", "agent", why=why, code=error.code, cause=error.cause)
            raise
        self._audit.append("host-key", "done", "host", "agent", why=why)

    def lowest(self, release: Release) -> Floor | None:
        """The floor that the TPM vouches for; None where the key does not open now or has none."""
        try:
            sealed = self._read()
            guard.unseal(self._tpm, sealed, release.policies)
        except (MeasureError, ContentError) as error:
            log.info("the sealed floor is not known now: %s", error)
            return None
        if sealed.floor is None:
            return None
        found, releases = self._floor(), dict(sealed.floor.releases)
        if found.root < sealed.floor.root or any(dict(found.releases).get(c, 0) < n for c, n in releases.items()):
            self._audit.append(
                "floor", "failed", "host", "agent", why="its file is older than the key: somebody copied it back"
            )
        return Floor(time=0, root=sealed.floor.root, releases=sealed.floor.releases)

    def _finish(self, sealed: SealedKey, release: Release, note: Callable[[], None]) -> None:
        """Let the counter follow the key on the disk: only if it is below, and only if the key opens."""
        mark = self._paths.counter_raised
        if self._tpm.counter() < sealed.counter:
            guard.unseal(self._tpm, self._read(), release.policies)
            durable.write_file(mark, b"")
            guard.shut_older(self._tpm, sealed)
        if mark.exists():
            note()
            durable.remove(mark)

    def _announced(self, release: Release, sealed: SealedKey) -> tuple[Pcrs, ...]:
        if not local_pcrs(release):
            return tuple(item.pcrs for item in sealed.ahead)
        try:
            return self._foresee(release, release)
        except (Pcr7Unforeseen, LogRefused) as error:
            # What was sealed ahead stays; nothing else depends on it.
            log.warning("an announced change of Secure Boot was not looked at: %s", error)
            return tuple(item.pcrs for item in sealed.ahead)

    def _read(self) -> SealedKey:
        return SealedKey.parse(durable.read_file(self._paths.sealed_key, SealedKey.LIMIT))
