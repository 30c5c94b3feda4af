# SPDX-License-Identifier: Apache-2.0
"""The host's audit key: signs heads of the audit trail, in its TPM, only in states that the publisher signed.

Who rewrites the whole trail cannot sign its end. The key is certified by the attestation key, so that a verifier who
knows that one can tell the audit key from a program's. This module does not write the trail and does not off-load.
"""

from __future__ import annotations

from agent.audit import AuditTrail, read_signed_head, signed_head_path, verify
from agent.errors import NotReady
from agent.paths import HostPaths
from content import durable
from content.errors import Missing
from documents.audit import AuditBroken, AuditHead, SignedHead
from documents.host_state import PurposeKey
from documents.release import Release
from keys.tpm_policy import policy_ref
from measure.errors import QuoteRefused, SealShut
from measure.guard import read_state, told
from measure.policy import PURPOSE_EPOCH, authorize_policy, signed_by, state_of
from measure.signed_heads import CERTIFICATION, verify_head
from measure.tpm import Tpm

MAX_AK = 1_000


class AuditKey:
    """Makes and uses the audit key.

    Args:
        paths: of the host.
        tpm: holds the key.
        audit: the trail whose heads are signed.
    """

    def __init__(self, paths: HostPaths, tpm: Tpm, audit: AuditTrail) -> None:
        self._paths = paths
        self._tpm = tpm
        self._audit = audit

    def make(self, release: Release) -> None:
        """Make and certify the key for the policies of a platform release, unless there is one."""
        if not self._paths.audit_key.exists():
            self._make(release)

    def make_anew(self, release: Release) -> None:
        """Make another key, certified by this TPM's attestation key: the one before is of another TPM."""
        durable.write_file(self._paths.ak, self._tpm.create_ak(), 0o644)
        self._make(release)

    def follow(self, release: Release) -> None:
        """Make another key where a confirmed release has another policy key: the old one would soon sign no more.

        The signed head goes first, since the new key did not sign it; the next ``sign`` makes it anew.
        """
        if self._paths.audit_key.exists() and _read_key(self._paths).key != release.policy_keys[0]:
            self._make(release)

    def _make(self, release: Release) -> None:
        durable.remove(signed_head_path(self._paths.audit))
        policy_key = release.policy_keys[0]
        policy = authorize_policy(policy_key, policy_ref(release.channel, PURPOSE_EPOCH))
        public, private = self._tpm.create_purpose_key(policy)
        attest, signature = self._tpm.certify(public, private, CERTIFICATION)
        key = PurposeKey(
            purpose="audit",
            public=public,
            private=private,
            channel=release.channel,
            key=policy_key,
            attest=attest,
            signature=signature,
        )
        durable.write_file(self._paths.audit_key, key.encode())

    def sign(self, release: Release) -> None:
        """Sign the trail's head.

        Raises:
            Missing: the key was not made yet.
            SealShut: the host is in no state that the release signed.
        """
        key = _read_key(self._paths)
        head = self._audit.head
        state = read_state(self._tpm, release.policies)
        policies = state_of(release.policies, PURPOSE_EPOCH, state)
        policy = next(signed_by(policies, key.key, key.channel), None)
        if policy is None:
            raise SealShut(
                "the audit trail's head was not signed",
                cause=f"no policy of the release is for {told(state)}",
                remedy="reboot to measure all anew",
                term="state",
            )
        signature = self._tpm.sign(
            key.public, key.private, SignedHead.message(head), key=key.key, channel=key.channel, policy=policy
        )
        durable.write_file(signed_head_path(self._paths.audit), SignedHead(head=head, signature=signature).encode())


def _read_key(paths: HostPaths) -> PurposeKey:
    return PurposeKey.parse(durable.read_file(paths.audit_key, PurposeKey.LIMIT))


def verify_host(paths: HostPaths) -> tuple[AuditHead, AuditHead | None]:
    """The head of a host's trail, verified as a whole, and the newest head that its TPM signed. Needs no TPM.

    Raises:
        AuditBroken: it is not what was written; a host that was set up has at least one record.
        NotReady: nobody set this host up.
    """
    signed = verify_signed_head(paths)
    head = verify(paths.audit, signed)
    if head.sequence == 0 and paths.anchor.exists():
        raise AuditBroken(
            "the audit trail was refused",
            cause=f"{paths.audit} holds no record, and this host was set up",
            remedy="compare with the off-loaded copy",
        )
    if head.sequence == 0:
        raise NotReady("nothing was verified", cause="this host was not set up", remedy="run `vmgate init`")
    return head, signed


def verify_signed_head(paths: HostPaths) -> AuditHead | None:
    """The newest head that this host's TPM signed; None where none was signed yet. Needs no TPM.

    Raises:
        AuditBroken: the signature, the key or its certification is not right.
    """
    signed = read_signed_head(paths.audit)
    if signed is None:
        return None
    try:
        key = _read_key(paths)
        return verify_head(signed, key, durable.read_file(paths.ak, MAX_AK))
    except (QuoteRefused, Missing) as error:
        raise AuditBroken(
            "the signed head of the audit trail was refused",
            cause=error.cause,
            remedy="keep the files and compare them with the off-loaded copy",
        ) from error
