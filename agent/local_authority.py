# SPDX-License-Identifier: Apache-2.0
"""The local authority of this host: what its administrators made here, signed by its TPM for nothing else.

All local images and VMs are one document with a number that grows (``documents.local_set``). The change is recorded
before it is made; an older document that somebody put back is told by the audit trail, whose head the TPM signs. Who
may have something signed is asked elsewhere, each time anew (``agent.roles``), and whether a local VM may start
(``agent.local_gate``). This module opens no image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.audit import AuditTrail
from agent.baselines import MAX_AK, newest_number
from agent.paths import HostPaths
from agent.purpose_signer import sign_once
from agent.vm_errors import LocalRefused
from content import durable
from content.errors import Missing, TooLarge
from documents.errors import DocumentError, VmgateError
from documents.host_state import Generation
from documents.local_set import LocalSet, SignedLocalSet
from documents.release import PolicyKey, Release
from measure.errors import QuoteRefused
from measure.purpose import certification_of, verify_purpose
from measure.tpm import Tpm

log = logging.getLogger(__name__)

CERTIFICATION = certification_of("local authority")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A set whose signature was verified.

    Attributes:
        content: the set.
        channel: the platform channel whose policies allowed the signature.
        key: the policy key whose policies did.
    """

    content: LocalSet
    channel: str
    key: PolicyKey

    def counts_under(self, platform: Release) -> bool:
        """Whether it was signed in a state that the publisher of a platform release approved."""
        return self.channel == platform.channel and self.key in platform.policy_keys


def verify_local_set(untrusted_bytes: bytes, ak: bytes) -> Vouched:
    """Verify a signed set.

    Args:
        untrusted_bytes: a SignedLocalSet.
        ak: TPMT_PUBLIC of the host's attestation key.

    Raises:
        LocalRefused: it is malformed, or not signed by this host for this purpose.
    """
    try:
        signed = SignedLocalSet.parse(untrusted_bytes)
        verify_purpose(signed, signed.content, ak, CERTIFICATION)
        content = LocalSet.parse(signed.content)
    except (QuoteRefused, DocumentError) as error:
        raise _refused(error.cause) from error
    return Vouched(content=content, channel=signed.channel, key=signed.key)


class LocalAuthority:
    """Keeps the set of one host.

    Args:
        paths: of this host.
        tpm: signs.
        audit: its trail.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, paths: HostPaths, tpm: Tpm, audit: AuditTrail, clock: Callable[[], int]) -> None:
        self._path = paths.local_set
        self._ak = paths.ak
        self._tpm = tpm
        self._audit = audit
        self._clock = clock
        self._least = newest_number(paths.audit, "local-sign")
        self._known: tuple[bytes, bytes, Vouched] | None = None
        self._names: dict[str, str] = {}
        self.refusal = ""
        """Why what is stored counts for nothing; empty if it counts, or if there is none."""

    def vouched(self) -> Vouched | None:
        """What counts; None where nothing was signed yet, or where what is stored was refused."""
        try:
            found = self._verified()
        except VmgateError as error:
            if error.cause != self.refusal:
                log.warning("%s", error.line())
            self.refusal = error.cause
            return None
        self.refusal = ""
        return found

    def content(self, platform: Release) -> LocalSet | None:
        """The set that counts under a platform release; None for none."""
        found = self.vouched()
        if found is None or found.counts_under(platform):
            return found.content if found else None
        self.refusal = "it was signed under another policy key than the platform release has"
        return None

    def content_of(self, generation: Callable[[], Generation | None]) -> LocalSet | None:
        """The set that counts under the active generation; None for none."""
        active = generation()
        return self.content(active.platform) if active else None

    def _verified(self) -> Vouched | None:
        stored = self._stored()
        if not stored:
            if self._least:
                raise _refused(f"number {self._least} was signed and is not there any more")
            return None
        ak = durable.read_file(self._ak, MAX_AK)
        if self._known is None or self._known[:2] != (stored, ak):
            self._known = (stored, ak, verify_local_set(stored, ak))
        found = self._known[2]
        if found.content.number < self._least:
            raise _refused(f"it is number {found.content.number}, and number {self._least} was signed")
        self._names.update((vm.subject, vm.name) for vm in found.content.vms)
        return found

    def _stored(self) -> bytes:
        try:
            return durable.read_file(self._path, SignedLocalSet.LIMIT)
        except Missing:
            return b""
        except TooLarge:
            # It is none, and what stands for it is refused as one.
            return b"too large"

    def names(self) -> dict[str, str]:
        """The VMs' names by the pseudonyms under which they are measured, as far as this agent has seen them."""
        self.vouched()
        return dict(self._names)

    def kept(self) -> frozenset[str] | None:
        """What must stay in the store; None where nobody can tell.

        What is only refused may be put right: it is believed here, and nowhere else.
        """
        stored = self._stored()
        try:
            return LocalSet.parse(SignedLocalSet.parse(stored).content).kept() if stored else frozenset()
        except DocumentError as error:
            log.warning("nothing is removed from the store, since what was made here cannot be read: %s", error)
            return None

    def sign(
        self, change: Callable[[LocalSet], LocalSet], release: Release, actor: str, *, act: str, subject: str,
        fsverity: str,
    ) -> LocalSet:  # fmt: skip
        """Change the set and have it signed.

        Args:
            change: gives the set as it shall be, from how it is; its number, time and actor are set here.
            release: the active platform release.
            actor: who has it signed.
            act: what is done, for the trail.
            subject: to what.
            fsverity: digest of the image or the definition, for the trail.

        Raises:
            LocalRefused: what is stored is not this host's, or too old: nothing is built on that.
            SealShut: the host is in no state that the release signed.
            DocumentError: the set as it shall be is none.
        """
        # Gone altogether is a loss that can be gone on from; the trail has its number, so it never comes back.
        before = self._verified() if self._stored() else None
        now = before.content if before else LocalSet(number=1, time=0, actor="nobody")
        number = max(self._least, now.number if before else 0) + 1
        new = replace(change(replace(now, number=number)), number=number, time=self._clock(), actor=actor[:120])
        message = new.encode()
        LocalSet.parse(message)
        details = {"act": act, "number": str(number), "fsverity": fsverity}
        self._audit.append("local-sign", "started", subject, actor, **details)
        try:
            made = sign_once(self._tpm, release, message, CERTIFICATION, "nothing was signed")
            signed = SignedLocalSet(
                content=message,
                signature=made.signature,
                public=made.public,
                channel=made.channel,
                key=made.key,
                attest=made.attest,
                certification=made.certification,
            )
            durable.write_file(self._path, signed.encode())
        except VmgateError as error:
            self._audit.append("local-sign", "failed", subject, actor, **details, cause=error.cause, code=error.code)
            raise
        self._audit.append("local-sign", "done", subject, actor, **details)
        self._least = number
        return new


def _refused(cause: str) -> LocalRefused:
    return LocalRefused(
        "what was made on this host was refused",
        cause=cause,
        remedy="put local-set.json back, or remove it and make images and VMs anew",
    )
