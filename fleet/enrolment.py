# SPDX-License-Identifier: Apache-2.0
"""How a verifier gets to know a host by its TPM vendor's word: a challenge out, evidence or a request key in.

Needs no database: for evidence the verifier keeps the nonce of one challenge until it is there (``measure.proof``), for
a request key the nonce follows from a secret and the ticket that the host brings back. It has to use a nonce once, and
to draw it anew for each host. This module fetches nothing and keeps nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as EcPublicKey

from documents.enrolment import EnrolmentOffer, EnrolmentProof, EnrolmentRequest
from documents.evidence import Evidence
from documents.identity import Identity
from fleet.errors import EnrolmentRefused, VerifierUnready
from measure.ek_roots import Roots
from measure.errors import QuoteRefused
from measure.proof import Endorsed, joined, verify_identity
from measure.quote import verify_certified_key
from measure.templates import request_public
from measure.verifying import Known

TICKET: Final = 24
"""Bytes: a time and 16 random ones."""

TICKET_SECONDS: Final = 600
"""Some chips take a minute for their endorsement key."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A host that showed who it is.

    Attributes:
        ek: SHA-256 of the endorsement key's name, by which the fleet knows it again.
        ak: TPMT_PUBLIC of its attestation key.
        key: TPMT_PUBLIC of its request key.
        chip: whether its TPM is a chip's.
        manufacturer: as its certificate says.
        name: what it would like to be called; empty where it does not mind.
    """

    ek: str
    ak: bytes
    key: bytes
    chip: bool
    manufacturer: str
    name: str


def make_offer(
    request: EnrolmentRequest, roots: Roots, secret: bytes, *, fleet: str, random: bytes, time: int
) -> EnrolmentOffer:
    """Ask a host that wants to join to prove who it is. Keeps nothing: the nonce follows from secret and ticket.

    Args:
        request: of the host; whether its token counts was seen before.
        roots: of TPM vendors.
        secret: of the fleet, 32 bytes.
        fleet: its name.
        random: 16 random bytes.
        time: seconds since 1970 UTC.

    Raises:
        DocumentError, CertificateMalformed, CertificateUntrusted, IdentityRefused: see ``verify_identity``.
    """
    endorsed = verify_identity(Identity.parse(request.identity), roots, time)
    ticket = time.to_bytes(8, "big") + random
    challenge = endorsed.challenge(_nonce(secret, ticket, request.token, endorsed))
    return EnrolmentOffer(fleet=fleet, ticket=ticket, challenge=challenge.encode())


def verify_proof(proof: EnrolmentProof, roots: Roots, secret: bytes, time: int) -> Newcomer:
    """Verify that one TPM holds endorsement, attestation and request key, and answers now.

    Raises:
        EnrolmentRefused: the ticket is none, or too old; or the request key is of another kind, or was not certified
            in answer to the challenge.
        DocumentError, CertificateMalformed, CertificateUntrusted, IdentityRefused: see ``verify_identity``.
    """
    made = int.from_bytes(proof.ticket[:8], "big")
    if len(proof.ticket) != TICKET or not made <= time < made + TICKET_SECONDS:
        raise refused_host(f"the challenge was not answered within {TICKET_SECONDS} seconds")
    endorsed = verify_identity(Identity.parse(proof.identity), roots, time)
    answer = endorsed.answer(_nonce(secret, proof.ticket, proof.token, endorsed))
    try:
        key = verify_certified_key(proof.attest, proof.signature, endorsed.ak, joined(answer), proof.key)
    except QuoteRefused as error:
        raise refused_host(f"its request key is not shown to be of its TPM: {error.cause}") from error
    # All but the point is the same for every such key.
    if not proof.key.startswith(request_public().removesuffix(bytes(4))) or not isinstance(key.key, EcPublicKey):
        raise refused_host("its request key is of another kind")
    return Newcomer(
        ek=hashlib.sha256(endorsed.ek.name).hexdigest(),
        ak=endorsed.ak,
        key=proof.key,
        chip=endorsed.vouched.chip,
        manufacturer=endorsed.vouched.manufacturer,
        name=proof.name,
    )


def refused_host(cause: str) -> EnrolmentRefused:
    """The error for a host that is not taken in."""
    return EnrolmentRefused(
        "the host was not enrolled", cause=cause, remedy="enrol it again, see `vmgate explain FL031`"
    )


def _nonce(secret: bytes, ticket: bytes, token: str, endorsed: Endorsed) -> bytes:
    """The nonce of one challenge: for one ticket, token and pair of keys, and for nobody who lacks the secret."""
    message = b"vmgate enrolment\0" + ticket + bytes.fromhex(token) + endorsed.ek.name + endorsed.ak_name
    return hmac.digest(secret, message, "sha256")
