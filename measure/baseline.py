# SPDX-License-Identifier: Apache-2.0
"""Whether a host's administrator approved a baseline while its TPM was in a state that the publisher signed.

The checks are those of ``measure.purpose``, and that what was signed is a baseline; each raises ``BaselineRefused``.

Left to the caller: that the attestation key is the host's, that the policy key and channel are those of the host's
platform release, and that no newer baseline was approved. This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from content.fsverity import digest_bytes
from documents.baseline import Baseline, SignedBaseline
from documents.errors import DocumentError
from documents.release import PolicyKey
from measure.errors import BaselineRefused, QuoteRefused
from measure.purpose import certification_of, verify_purpose

CERTIFICATION = certification_of("baseline")
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
        verify_purpose(signed, signed.baseline, ak, CERTIFICATION)
        baseline = Baseline.parse(signed.baseline)
    except (QuoteRefused, DocumentError) as error:
        raise BaselineRefused(
            "the approved baseline was refused", cause=error.cause, remedy="approve anew: `vmgate config approve`"
        ) from error
    return Approved(baseline=baseline, fsverity=digest_bytes(untrusted_bytes), channel=signed.channel, key=signed.key)
