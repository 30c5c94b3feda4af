# SPDX-License-Identifier: Apache-2.0
"""The baseline of this host: what its administrator approved of what is local to it.

A baseline is signed by a key of the TPM that is made for this one signature, certified by the attestation key, usable
only in states that the platform's publisher signed, and kept nowhere. It is recorded before it is made. An older
baseline that somebody put back is told by the audit trail, whose head the TPM signs. This module judges nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.audit import AuditTrail, records
from agent.errors import BaselineChanged, PolicyRefused
from agent.paths import HostPaths
from agent.purpose_signer import sign_once
from content import durable
from content.errors import Missing, TooLarge
from content.fsverity import digest_bytes
from documents.baseline import Baseline, SignedBaseline, encode_entries
from documents.canonical import Json, encode
from documents.host_files import ABSENT
from documents.local_listing import UNREADABLE
from documents.release import Release
from documents.security_policy import SecurityPolicy
from measure.baseline import CERTIFICATION, Approved, verify_baseline
from measure.errors import BaselineRefused, SealShut
from measure.tpm import Tpm

log = logging.getLogger(__name__)

EVENT = "baseline-approve"
MAX_AK = 1_000


class Baselines:
    """Keeps the baseline of one host.

    Args:
        paths: of this host.
        tpm: signs.
        audit: its trail.
        clock: gives seconds since 1970 UTC.
    """

    def __init__(self, paths: HostPaths, tpm: Tpm, audit: AuditTrail, clock: Callable[[], int]) -> None:
        self._path = paths.baseline
        self._ak = paths.ak
        self._tpm = tpm
        self._audit = audit
        self._clock = clock
        self._least = newest_approved(paths.audit)
        self.refusal = ""
        """Why what is stored counts for nothing; empty if it counts, or if there is none."""

    def stored(self) -> bytes:
        """The signed baseline as it is stored; empty for none. Not verified."""
        try:
            return durable.read_file(self._path, SignedBaseline.LIMIT)
        except Missing:
            return b""
        except TooLarge:
            # It is none, and what stands for it is refused as one.
            return b"too large"

    def digest(self) -> str:
        """The digest of what is stored, as it is measured; ABSENT for none."""
        stored = self.stored()
        return digest_bytes(stored) if stored else ABSENT

    def approved(self) -> Approved | None:
        """The baseline that counts; None where nothing was approved, or where what is stored was refused."""
        try:
            approved = self._verified()
        except BaselineRefused as error:
            if error.cause != self.refusal:
                log.warning("%s", error.line())
            self.refusal = error.cause
            return None
        self.refusal = ""
        return approved

    def _verified(self) -> Approved | None:
        stored = self.stored()
        if not stored:
            if self._least:
                raise _refused(f"number {self._least} was approved and is not there any more")
            return None
        approved = verify_baseline(stored, durable.read_file(self._ak, MAX_AK))
        if approved.baseline.sequence < self._least:
            raise _refused(f"it is number {approved.baseline.sequence}, and number {self._least} was approved")
        return approved

    def approve(
        self, digests: Mapping[str, str], shown: str, release: Release, policy: SecurityPolicy, actor: str
    ) -> int:
        """Approve what was measured just now; returns the baseline's number.

        Args:
            digests: by subject.
            shown: ``proposal`` of what the administrator saw; another one is not approved.
            release: the active platform release.
            policy: its security policy.
            actor: who approves.

        Raises:
            PolicyRefused: the signed policy leaves nothing to the administrator.
            BaselineChanged: something changed since it was shown, or cannot be measured.
            SealShut: the host is in no state that the release signed.
        """
        if policy.local == "publisher":
            raise PolicyRefused(
                "nothing was approved",
                cause="the signed security policy takes the publisher's word alone",
                remedy="a release that names what this host has",
            )
        unreadable = sorted(subject for subject, digest in digests.items() if digest == UNREADABLE)
        if unreadable or proposal(digests) != shown:
            raise BaselineChanged(
                "nothing was approved",
                cause=f"{unreadable[0]} cannot be measured" if unreadable else "something changed since it was shown",
                remedy="look again: `vmgate config check`",
            )
        sequence = max(self._least, self._stored_sequence()) + 1
        baseline = Baseline(
            sequence=sequence,
            time=self._clock(),
            actor=actor[:120],
            channel=release.channel,
            number=release.number,
            entries=tuple(sorted(digests.items())),
        ).encode()
        details = {"number": str(sequence), "baseline": digest_bytes(baseline)}
        self._audit.append(EVENT, "started", "host", actor, **details)
        try:
            signed = self._sign(baseline, release)
        except SealShut as error:
            self._audit.append(EVENT, "failed", "host", actor, **details, cause=error.cause)
            raise
        durable.write_file(self._path, signed.encode())
        self._audit.append(EVENT, "done", "host", actor, **details)
        self._least = sequence
        return sequence

    def _stored_sequence(self) -> int:
        """Of what is stored and this host's own, even if it is older than what was approved."""
        try:
            stored = self.stored()
            return verify_baseline(stored, durable.read_file(self._ak, MAX_AK)).baseline.sequence if stored else 0
        except BaselineRefused:
            return 0

    def _sign(self, message: bytes, release: Release) -> SignedBaseline:
        made = sign_once(self._tpm, release, message, CERTIFICATION, "nothing was approved")
        return SignedBaseline(
            baseline=message,
            signature=made.signature,
            public=made.public,
            channel=made.channel,
            key=made.key,
            attest=made.attest,
            certification=made.certification,
        )


def proposal(digests: Mapping[str, str]) -> str:
    """What stands for one set of digests between showing and approving it."""
    return digest_bytes(encode({"entries": encode_entries(tuple(sorted(digests.items())))}))


def newest_approved(audit: Path) -> int:
    """The highest number of a baseline that the trail says was approved; 0 for none."""
    return newest_number(audit, EVENT)


def newest_number(audit: Path, event: str) -> int:
    """The highest ``number`` of an event that the trail says was done; 0 for none."""
    done = (dict(record.details) for record in records(audit) if (record.event, record.outcome) == (event, "done"))
    return max((int(details["number"]) for details in done if details.get("number", "").isdecimal()), default=0)


def told_baseline(approved: Approved | None) -> dict[str, Json]:
    """A baseline for people and programs; empty for none."""
    if approved is None:
        return {}
    return approved.baseline.members() | {"fsverity": approved.fsverity}


def _refused(cause: str) -> BaselineRefused:
    return BaselineRefused(
        "the approved baseline was refused", cause=cause, remedy="put it back, or `vmgate config approve`"
    )
