# SPDX-License-Identifier: Apache-2.0
"""What signs TPM policies, over any key that ``keys.signers`` can open.

A signer signs nothing but an approved policy with its policyRef, so a signature can never be taken for another. Who
calls it has computed the policy from named values. This module does not compute policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.signer import Signer

from documents.release import PolicyKey
from keys.roles import P256, key_names
from keys.signers import names_here, open_key
from keys.unlock import Secret

ROLE = "tpm-policy"
DIGEST = 32
"""Bytes of an approved policy and of a policyRef (SHA-256)."""


class PolicySigner(Protocol):
    """Signs TPM policies for TPM2_PolicyAuthorize (TPM 2.0 Library, Part 3)."""

    def public(self) -> PolicyKey:
        """The public half."""
        ...

    def sign(self, approved: bytes, ref: bytes) -> bytes:
        """Sign SHA-256(``approved`` || ``ref``) with ECDSA P-256.

        Args:
            approved: the policy digest, 32 bytes, not all zeros.
            ref: the policyRef, 32 bytes.

        Returns:
            r || s, 32 bytes each.

        Raises:
            ValueError: wrong lengths, or the empty policy, which anything satisfies.
        """
        ...


class KeyPolicySigner:
    """A policy signer whose key is anywhere that ``keys.signers`` can reach.

    Args:
        signer: holds an EC key on P-256.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def public(self) -> PolicyKey:
        """See ``PolicySigner``."""
        key = serialization.load_pem_public_key(self._signer.public_key.keyval["public"].encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != P256:
            raise ValueError("a policy key is on P-256")
        numbers = key.public_numbers()
        return PolicyKey(x=f"{numbers.x:064x}", y=f"{numbers.y:064x}")

    def sign(self, approved: bytes, ref: bytes) -> bytes:
        """See ``PolicySigner``."""
        if len(approved) != DIGEST or len(ref) != DIGEST:
            raise ValueError("an approved policy and a policyRef have 32 bytes each")
        if not any(approved):
            raise ValueError("the empty policy is never signed: anything satisfies it")
        r, s = decode_dss_signature(bytes.fromhex(self._signer.sign(approved + ref).signature))
        return r.to_bytes(DIGEST) + s.to_bytes(DIGEST)


def open_policy_signers(folder: Path, secret: Secret) -> tuple[KeyPolicySigner, ...]:
    """The policy signers whose keys are here, the current one (that of the highest number) first.

    Raises:
        NoSuchKey: none is here.
        KeysError: a key does not open or is not on P-256.
        ContentError: a file cannot be read.
    """
    names = names_here(ROLE, folder)[::-1] or key_names(ROLE)
    return tuple(KeyPolicySigner(open_key(name, folder, secret)) for name in names)
