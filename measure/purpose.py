# SPDX-License-Identifier: Apache-2.0
"""Whether a host's TPM signed something for one purpose, while it was in a state that the publisher signed.

The checks, in order; each raises ``QuoteRefused``:
 1. the attestation key certifies the key that signed, for this purpose;
 2. that key is used only under policies of the named policy key and channel, and never leaves its TPM;
 3. it signed these bytes.

Left to the caller: that the attestation key is the host's, that the policy key and channel are those of the host's
platform release, and that nothing newer was signed. This module does no I/O.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from documents.release import PolicyKey
from keys.tpm_policy import policy_ref
from measure.policy import PURPOSE_EPOCH, authorize_policy
from measure.quote import verify_certified_key
from measure.structures import parse_signature, refused, verify_signature
from measure.templates import PURPOSE_ATTRIBUTES


class PurposeSigned(Protocol):
    """What stands beside the signed bytes, in the forms of the TPM (see ``documents.baseline.SignedBaseline``)."""

    @property
    def signature(self) -> bytes:
        """TPMT_SIGNATURE over the bytes."""

    @property
    def public(self) -> bytes:
        """TPMT_PUBLIC of the key that signed."""

    @property
    def channel(self) -> str:
        """Platform channel whose policies allow the key's use."""

    @property
    def key(self) -> PolicyKey:
        """The policy key whose policies do."""

    @property
    def attest(self) -> bytes:
        """TPMS_ATTEST by which the attestation key certifies the key."""

    @property
    def certification(self) -> bytes:
        """TPMT_SIGNATURE over ``attest``."""


def certification_of(purpose: str) -> bytes:
    """What the certification of a key for a purpose answers: it says what the key is for."""
    return hashlib.sha256(f"vmgate purpose key: {purpose}".encode()).digest()


def verify_purpose(signed: PurposeSigned, message: bytes, ak: bytes, certification: bytes) -> None:
    """Verify a signature.

    Args:
        signed: the signature and the key that made it.
        message: what was signed.
        ak: TPMT_PUBLIC of the host's attestation key.
        certification: see ``certification_of``.

    Raises:
        QuoteRefused: a check failed.
    """
    # 1.
    public = verify_certified_key(signed.attest, signed.certification, ak, certification, signed.public)
    # 2.
    policy = authorize_policy(signed.key, policy_ref(signed.channel, PURPOSE_EPOCH))
    if public.attributes != PURPOSE_ATTRIBUTES or public.auth_policy != policy:
        raise refused("the key that signed it could be used in any state")
    # 3.
    verify_signature(public, parse_signature(signed.signature), message)
