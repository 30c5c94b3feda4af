# SPDX-License-Identifier: Apache-2.0
"""Signs once for a purpose: a key that the TPM makes for one signature, certified by the attestation key, kept nowhere.

It works only in states that the platform's publisher signed. ``agent.audit_key`` keeps a key of the same kind, since
the end of the trail is signed often. What is signed, and who may have it signed, is the caller's affair.
"""

from __future__ import annotations

from dataclasses import dataclass

from documents.release import PolicyKey, Release
from keys.tpm_policy import policy_ref
from measure.errors import SealShut
from measure.guard import read_state, told
from measure.policy import PURPOSE_EPOCH, authorize_policy, signed_by, state_of
from measure.tpm import Tpm


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeSignature:
    """A signature with all that its verifier needs; see ``measure.purpose.PurposeSigned``."""

    signature: bytes
    public: bytes
    channel: str
    key: PolicyKey
    attest: bytes
    certification: bytes


def sign_once(tpm: Tpm, release: Release, message: bytes, certification: bytes, what: str) -> PurposeSignature:
    """Make a key, let the attestation key certify it, sign, and forget the key.

    Args:
        tpm: of this host.
        release: the active platform release.
        message: what is signed.
        certification: says what for, see ``measure.purpose.certification_of``.
        what: what did not happen, for the error.

    Raises:
        SealShut: the host is in no state that the release signed.
    """
    key = release.policy_keys[0]
    state = read_state(tpm, release.policies)
    policy = next(signed_by(state_of(release.policies, PURPOSE_EPOCH, state), key, release.channel), None)
    if policy is None:
        raise SealShut(
            what,
            cause=f"no policy of the release is for {told(state)}",
            remedy="reboot to measure all anew, then try again",
            term="state",
        )
    public, private = tpm.create_purpose_key(authorize_policy(key, policy_ref(release.channel, PURPOSE_EPOCH)))
    attest, certified = tpm.certify(public, private, certification)
    signature = tpm.sign(public, private, message, key=key, channel=release.channel, policy=policy)
    return PurposeSignature(
        signature=signature,
        # TPM2B_PUBLIC is a size of two bytes and TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.5).
        public=public[2:],
        channel=release.channel,
        key=key,
        attest=attest,
        certification=certified,
    )
