# SPDX-License-Identifier: Apache-2.0
"""Whether a host's administrator approved a baseline while its TPM was in a state that the publisher signed.

The checks, in order; each raises ``BaselineRefused``:
 1. the attestation key certifies the key that signed, for this purpose;
 2. that key is used only under policies of the named policy key and channel, and never leaves its TPM;
 3. it signed these bytes, and they are a baseline.

Left to the caller: that the attestation key is the host's, that the policy key and channel are those of the host's
platform release, and that no newer baseline was approved. This module does no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from content.fsverity import digest_bytes
from documents.baseline import Baseline, SignedBaseline
from documents.errors import DocumentError
from documents.release import PolicyKey
from keys.tpm_policy import policy_ref
from measure.errors import BaselineRefused, QuoteRefused
from measure.policy import PURPOSE_EPOCH, authorize_policy
from measure.quote import verify_certified_key
from measure.structures import parse_signature, refused, verify_signature
from measure.templates import PURPOSE_ATTRIBUTES

CERTIFICATION = hashlib.sha256(b"vmgate purpose key: baseline").digest()
"""What the certification of the key answers: it says what the key is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """A baseline whose signature was verified.

    Attributes:
        baseline: what was approved.
        fsverity: digest of the signed document, which the host measures.
        channel: the platform channel whose policies allowed the signature.
        key: the policy key whose policies did.
    """

    baseline: Baseline
    fsverity: str
    channel: str
    key: PolicyKey


def verify_baseline(untrusted_bytes: bytes, ak: bytes) -> Approved:
    """Verify a signed baseline.

    Args:
        untrusted_bytes: a SignedBaseline.
        ak: TPMT_PUBLIC of the host's attestation key.

    Raises:
        BaselineRefused: it is malformed, or a check failed.
    """
    try:
        signed = SignedBaseline.parse(untrusted_bytes)
        # 1.
        public = verify_certified_key(signed.attest, signed.certification, ak, CERTIFICATION, signed.public)
        # 2.
        policy = authorize_policy(signed.key, policy_ref(signed.channel, PURPOSE_EPOCH))
        if public.attributes != PURPOSE_ATTRIBUTES or public.auth_policy != policy:
            raise refused("the key that signed it could be used in any state")
        # 3.
        verify_signature(public, parse_signature(signed.signature), signed.baseline)
        baseline = Baseline.parse(signed.baseline)
    except (QuoteRefused, DocumentError) as error:
        raise BaselineRefused(
            "the approved baseline was refused", cause=error.cause, remedy="approve anew: `vmgate config approve`"
        ) from error
    return Approved(baseline=baseline, fsverity=digest_bytes(untrusted_bytes), channel=signed.channel, key=signed.key)
