# SPDX-License-Identifier: Apache-2.0
"""The proof that one TPM, which its vendor vouches for, holds a host's attestation key and answers now.

The verifier keeps a nonce of 32 random bytes, and nothing else. From it and the names of both keys it derives a secret,
which it wraps so that only a TPM that holds both keys can open it (``measure.credential``). The host has it opened and
lets the attestation key quote over a digest of it, so one quote shows freshness, the endorsement key, and that both
keys are in one TPM. Names have 34 bytes, the nonce and the secret 32:

    secret = SHA-256("vmgate credential" || 00 || nonce || name of the endorsement key || name of the attestation key)
    answer = SHA-256("vmgate answer" || 00 || secret)        (extraData of the quote)

A host that joins a fleet lets the attestation key certify a request key instead (TPM2_Certify), which says in one step
that the same TPM holds that as well. Its extraData is kept apart from a quote's, and from the audit key's:

    joined = SHA-256("vmgate request key" || 00 || answer)

The secret is not the nonce itself, since a host learns what its TPM opens: with the nonce it could answer for any other
pair of keys, one of them made of air. So whoever knows the nonce before the evidence is there can forge it; it must not
leave the verifier, and serves once.

Left to the caller: to draw the nonce, to keep it, and to verify the quote with what ``Endorsed`` says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from documents.identity import Challenge, EndorsementKey, Identity
from measure.credential import make_credential
from measure.ek_path import Vouched, verify_ek_certificate
from measure.ek_path import refused as untrusted_certificate
from measure.ek_roots import Roots
from measure.endorsement import EkPublic, parse_ek, refused
from measure.errors import CertificateMalformed, CertificateUntrusted, IdentityRefused, QuoteRefused
from measure.quote import NEEDED
from measure.structures import DECRYPT, parse_public
from measure.templates import public_name

NONCE_SIZE: Final = 32
_CREDENTIAL, _ANSWER, _REQUEST_KEY = b"vmgate credential\0", b"vmgate answer\0", b"vmgate request key\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsed:
    """A host's keys, as far as they can be known without asking its TPM.

    Attributes:
        ek_public: TPMT_PUBLIC of the endorsement key for which a root vouches.
        ek: the same, read.
        ak: TPMT_PUBLIC of the attestation key, which is of the right kind; that its TPM is the same, the answer shows.
        vouched: who vouches, and for what.
    """

    ek_public: bytes
    ek: EkPublic
    ak: bytes
    vouched: Vouched

    @property
    def ak_name(self) -> bytes:
        """The TPM's name of the attestation key."""
        return public_name(self.ak)

    def answer(self, nonce: bytes) -> bytes:
        """What the quote has to answer."""
        return answer(self._secret(nonce))

    def challenge(self, nonce: bytes) -> Challenge:
        """What to ask the host."""
        credential, seed = make_credential(self.ek, self.ak_name, self._secret(nonce))
        return Challenge(ek=self.ek_public, ak_name=self.ak_name, credential=credential, seed=seed)

    def _secret(self, nonce: bytes) -> bytes:
        if len(nonce) != NONCE_SIZE:
            raise refused(f"the nonce of a challenge has {NONCE_SIZE} bytes, and this one {len(nonce)}")
        return hashlib.sha256(_CREDENTIAL + nonce + self.ek.name + self.ak_name).digest()


def answer(secret: bytes) -> bytes:
    """What the host lets its attestation key quote over, given what its TPM opened."""
    return hashlib.sha256(_ANSWER + secret).digest()


def joined(answer: bytes) -> bytes:
    """What the certification of a request key has to answer, given what a quote would."""
    return hashlib.sha256(_REQUEST_KEY + answer).digest()


def verify_identity(identity: Identity, roots: Roots, time: int) -> Endorsed:
    """Find the endorsement key of a host for which a root vouches, and see that the attestation key is of its kind.

    Args:
        identity: untrusted, as the host sent it.
        roots: the verifier's.
        time: seconds since 1970 UTC.

    Raises:
        IdentityRefused: a key is of another kind, or the certificate of another key, or there is none.
        CertificateMalformed: the certificate cannot be read.
        CertificateUntrusted: nobody vouches for it. Of two keys that fail the first tells why.
    """
    _require_ak(identity.ak)
    failures: list[IdentityRefused | CertificateMalformed | CertificateUntrusted] = []
    for key in identity.eks:
        try:
            return _endorsed(key, identity, roots, time)
        except (IdentityRefused, CertificateMalformed, CertificateUntrusted) as error:
            failures.append(error)
    # A key without a certificate is the least that can be said against the other one.
    failures.sort(key=lambda error: isinstance(error, IdentityRefused))
    raise failures[0] if failures else refused("it shows no endorsement key")


def _endorsed(key: EndorsementKey, identity: Identity, roots: Roots, time: int) -> Endorsed:
    ek = parse_ek(key.public)
    if not key.certificate:
        raise refused("its TPM has no certificate: enrol its attestation key by hand (`--ak`)")
    vouched = verify_ek_certificate(key.certificate, identity.chain, roots, time)
    if vouched.certificate.key != ek.key:
        raise untrusted_certificate("it is of another key than the TPM's endorsement key", "key")
    return Endorsed(ek_public=key.public, ek=ek, ak=identity.ak, vouched=vouched)


def _require_ak(untrusted_public: bytes) -> None:
    """A TPM holds a public key of this kind only with its private half: it loads none from outside as fixedTPM."""
    try:
        attributes = parse_public(untrusted_public).attributes
    except QuoteRefused as error:
        raise refused(error.cause) from error
    if attributes & NEEDED != NEEDED or attributes & DECRYPT:
        raise refused("the attestation key is no restricted signing key that is fixed to its TPM")
