# SPDX-License-Identifier: Apache-2.0
"""Who this host is: its TPM's identity for a verifier, and the answer to that verifier's challenge.

Whether a vendor vouches for the TPM is for the verifier to judge, who has the roots; this module judges nothing.
"""

from __future__ import annotations

import logging

from documents.identity import Challenge, EndorsementKey, Identity
from measure.endorsement import KINDS, parse_ek, refused
from measure.errors import TpmFailed
from measure.proof import answer
from measure.tpm import Tpm

log = logging.getLogger(__name__)


def identity(tpm: Tpm) -> Identity:
    """What the TPM says of itself: endorsement keys with a certificate first; a kind that it cannot make is left out.

    Raises:
        IdentityRefused: it makes no endorsement key at all, such as for want of the hierarchy's authorisation.
    """
    found: list[EndorsementKey] = []
    # No lock over all of it: some chips take seconds for a key, and a VM may be starting.
    for kind in KINDS:
        try:
            found.append(EndorsementKey(public=tpm.ek_public(kind), certificate=tpm.ek_certificate(kind)))
        except TpmFailed as error:
            log.warning("the TPM's %s endorsement key is left out: %s", kind, error)
    if not found:
        raise refused("this TPM makes no endorsement key for vmgate")
    found.sort(key=lambda key: not key.certificate)
    return Identity(eks=tuple(found), chain=_chain(tpm), ak=tpm.create_ak())


def open_challenge(tpm: Tpm, untrusted_challenge: bytes) -> tuple[bytes, Identity]:
    """What the quote that answers a challenge has to be over, and the identity that it is about.

    Raises:
        DocumentError: it is none.
        ChallengeRefused: it is not for this TPM.
        IdentityRefused: it is for a kind of endorsement key that vmgate does not know.
    """
    challenge = Challenge.parse(untrusted_challenge)
    secret = tpm.activate(challenge)
    ek = EndorsementKey(public=challenge.ek, certificate=tpm.ek_certificate(parse_ek(challenge.ek).kind))
    return answer(secret), Identity(eks=(ek,), chain=_chain(tpm), ak=tpm.create_ak())


def _chain(tpm: Tpm) -> bytes:
    """The issuers that the vendor left in the TPM: a help, which the verifier may not need."""
    try:
        return tpm.ek_chain()
    except TpmFailed as error:
        log.warning("the certificates of the TPM's issuers are left out: %s", error)
        return b""
