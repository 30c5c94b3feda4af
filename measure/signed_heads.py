# SPDX-License-Identifier: Apache-2.0
"""Verification of a signed head of an audit trail: by the host itself, and by the fleet that has its attestation key.

The key must be certified by the attestation key for this purpose, and usable only in states that the publisher signed.
Needs no TPM. That the head is that of a certain trail is left to the caller.
"""

from __future__ import annotations

import hashlib
from typing import Final

from documents.audit import AuditHead, SignedHead
from documents.host_state import PurposeKey
from keys.tpm_policy import policy_ref
from measure.policy import PURPOSE_EPOCH, authorize_policy
from measure.quote import verify_certified_key
from measure.structures import parse_signature, refused, verify_signature
from measure.templates import PURPOSE_ATTRIBUTES

CERTIFICATION: Final = hashlib.sha256(b"vmgate purpose key: audit").digest()
"""What the certification answers: it says what the key is for. Freshness is the matter of an enrolment."""


def verify_head(signed: SignedHead, key: PurposeKey, ak: bytes) -> AuditHead:
    """Verify a signed head, and return it.

    Args:
        signed: untrusted.
        key: untrusted; with its certification.
        ak: TPMT_PUBLIC of the host's attestation key.

    Raises:
        QuoteRefused: the signature, the key or its certification is not right.
    """
    # TPM2B_PUBLIC is a size of two bytes and TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.5).
    public = verify_certified_key(key.attest, key.signature, ak, CERTIFICATION, key.public[2:])
    policy = authorize_policy(key.key, policy_ref(key.channel, PURPOSE_EPOCH))
    if public.attributes != PURPOSE_ATTRIBUTES or public.auth_policy != policy:
        raise refused("the key could be used in any state")
    verify_signature(public, parse_signature(signed.signature), SignedHead.message(signed.head))
    return signed.head
