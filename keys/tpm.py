# SPDX-License-Identifier: Apache-2.0
"""What a publisher's keys need of a TPM. Who fulfils it is not known here, so that publishing loads no TPM library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from documents.tpm_key import TpmKey

MAX_PIN = 32
"""Bytes of a key's PIN: the TPM takes no more than its name's digest has (TPM 2.0 Library Part 1, 19.6.4.3)."""


class SigningTpm(Protocol):
    """Makes P-256 keys and signs with them; ``measure.tpm_keys.TpmKeys`` does.

    Every method may raise ``TpmUnusable``, and those that take a key ``KeyOfAnotherTpm``.
    """

    def create(self, name: str, pin: bytes) -> TpmKey:
        """Make a key that never leaves the TPM and that only its PIN can use."""
        ...

    def public(self, key: TpmKey) -> ec.EllipticCurvePublicKey:
        """The public half of a key, once the TPM has shown that the key is its own.

        Raises:
            KeyFileMalformed: it is no key of the kind that ``create`` makes.
        """
        ...

    def sign(self, key: TpmKey, pin: bytes, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: an ECDSA signature in DER.

        Raises:
            PinWrong: the TPM refuses the PIN.
        """
        ...
