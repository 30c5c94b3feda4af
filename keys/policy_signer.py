# SPDX-License-Identifier: Apache-2.0
"""What signs TPM policies, over any key that ``keys.signers`` can open.

A signer is given named PCR values, never a digest: it computes by itself what it signs (``keys.tpm_policy``), so that
whoever has it make a signature knows what for, and no signature can be taken for another. It predicts no values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.signer import Signer

from documents.release import PolicyKey
from keys.roles import P256, key_names
from keys.signers import names_here, open_key
from keys.tpm_policy import signable
from keys.unlock import Secret

ROLE = "tpm-policy"
COORDINATE = 32
"""Bytes of each half of a signature on P-256."""


class PolicySigner(Protocol):
    """Signs TPM policies for TPM2_PolicyAuthorize (TPM 2.0 Library, Part 3)."""

    def public(self) -> PolicyKey:
        """The public half."""
        ...

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        """Sign the policy for PCR values, of a channel in a security epoch, with ECDSA P-256 and SHA-256.

        Args:
            pcrs: predicted values by index, SHA-256 in hexadecimal: of PCR 13, or of 11 and 13.
            channel: the platform channel.
            epoch: the security epoch, 0 for purpose keys.

        Returns:
            r || s, 32 bytes each.

        Raises:
            ValueError: see ``keys.tpm_policy.signable``.
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

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        """See ``PolicySigner``."""
        signature = self._signer.sign(signable(pcrs, channel, epoch)).signature
        r, s = decode_dss_signature(bytes.fromhex(signature))
        return r.to_bytes(COORDINATE) + s.to_bytes(COORDINATE)


def open_policy_signers(folder: Path, secret: Secret) -> tuple[KeyPolicySigner, ...]:
    """The policy signers whose keys are here, the current one (that of the highest number) first.

    Raises:
        NoSuchKey: none is here.
        KeysError: a key does not open or is not on P-256.
        ContentError: a file cannot be read.
    """
    names = names_here(ROLE, folder)[::-1] or key_names(ROLE)
    return tuple(KeyPolicySigner(open_key(name, folder, secret)) for name in names)
