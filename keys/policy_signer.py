# SPDX-License-Identifier: Apache-2.0
"""What signs TPM policies, and one that keeps its key in a file.

A signer signs nothing but an approved policy with its policyRef, so a signature can never be taken for another. Who
calls it has computed the policy from named values. This module does not compute policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from documents.release import PolicyKey
from keys.files import load_key
from keys.roles import role

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


class FilePolicySigner:
    """A policy signer whose key is in an encrypted file.

    Raises:
        KeysError: the key does not open or is not on P-256.
        ContentError: the file cannot be read.
    """

    def __init__(self, path: Path, passphrase: bytes) -> None:
        self._key = load_key(path, role("tpm-policy").curve, passphrase)

    def public(self) -> PolicyKey:
        """See ``PolicySigner``."""
        numbers = self._key.public_key().public_numbers()
        return PolicyKey(x=f"{numbers.x:064x}", y=f"{numbers.y:064x}")

    def sign(self, approved: bytes, ref: bytes) -> bytes:
        """See ``PolicySigner``."""
        if len(approved) != DIGEST or len(ref) != DIGEST:
            raise ValueError("an approved policy and a policyRef have 32 bytes each")
        if not any(approved):
            raise ValueError("the empty policy is never signed: anything satisfies it")
        r, s = decode_dss_signature(self._key.sign(approved + ref, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(DIGEST) + s.to_bytes(DIGEST)
