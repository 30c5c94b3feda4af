# SPDX-License-Identifier: Apache-2.0
"""How a verifier gets to know a host by its TPM vendor's word: a challenge out, evidence in.

Needs no database: the verifier keeps the nonce of one challenge until the evidence is there (``measure.proof``). It has
to use a nonce once, and to draw it anew for each host. This module fetches nothing and keeps nothing.
"""

from __future__ import annotations

from documents.evidence import Evidence
from documents.identity import Identity
from fleet.errors import VerifierUnready
from measure.ek_roots import Roots
from measure.proof import Endorsed, verify_identity
from measure.verifying import Known


def make_challenge(untrusted_identity: bytes, roots: Roots, nonce: bytes, time: int) -> tuple[bytes, Endorsed]:
    """Ask a host to prove that one TPM holds its keys: the encoded challenge, and whom it is for.

    Args:
        untrusted_identity: one Identity document.
        roots: of TPM vendors.
        nonce: 32 random bytes, which stay here.
        time: seconds since 1970 UTC.

    Raises:
        DocumentError, CertificateMalformed, CertificateUntrusted, IdentityRefused: see ``verify_identity``.
    """
    endorsed = verify_identity(Identity.parse(untrusted_identity), roots, time)
    return endorsed.challenge(nonce).encode(), endorsed


def verify_enrolled(untrusted_evidence: bytes, roots: Roots, nonce: bytes, time: int) -> Known:
    """See who shows the evidence, and what it must answer to be that host's: the key is the TPM's only if it does.

    The evidence is not judged here.

    Raises:
        VerifierUnready: the evidence does not answer a challenge.
        DocumentError, CertificateMalformed, CertificateUntrusted, IdentityRefused: see ``verify_identity``.
    """
    untrusted_identity = Evidence.parse(untrusted_evidence).identity
    if not untrusted_identity:
        raise VerifierUnready(
            "nothing was verified",
            cause="the evidence does not answer a challenge",
            remedy="make one with `vmgate attest challenge`, or give --ak",
        )
    endorsed = verify_identity(Identity.parse(untrusted_identity), roots, time)
    return Known(ak=endorsed.ak, nonce=endorsed.answer(nonce), chip=endorsed.vouched.chip)
