# SPDX-License-Identifier: Apache-2.0
"""The recovery key: wraps VM keys for a private half that no host has, and opens them with it.

A copy is made by a fresh key of P-256: ECDH (SP 800-56A, 5.7.1.2), HKDF-SHA256 (RFC 5869) over all that is public in
the copy, AES-256-GCM. The oldest ``cryptography`` that we take has no HPKE (RFC 9180), which would do the same. Whoever
knows the public half can make a copy, so a copy alone proves nothing of its origin; ``agent.recovery_copies`` sees to
that. This module reads no file and asks for no passphrase (``keys.files`` opens keys).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from documents.host_state import WrappedVmKey
from documents.recovery import RecoveryKey
from keys.errors import CopyRefused, PublicKeyMalformed, RecoveryKeyOther, RecoveryKeyUnknown

_COPY = b"vmgate recovery copy 1\0"
_CHECK = b"vmgate VM key check 1\0"
_SEAL = b"vmgate recovery key seal 1\0"


def recovery_key(private: ec.EllipticCurvePrivateKey, created: int) -> RecoveryKey:
    """The public half as a document.

    Args:
        private: on P-256.
        created: seconds since 1970 UTC.
    """
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return RecoveryKey(id=hashlib.sha256(public).hexdigest(), public=public, created=created)


def check_value(vm_key: bytes, uuid: str) -> bytes:
    """What a VM's key is known by; it says nothing of the key, which is random."""
    return hmac.digest(vm_key, _CHECK + uuid.encode(), "sha256")


def wrap(recovery: RecoveryKey, uuid: str, vm_key: bytes, random: Callable[[int], bytes]) -> WrappedVmKey:
    """Make a VM key's copy for the holder of the recovery key.

    Args:
        recovery: its public half.
        uuid: the VM.
        vm_key: 32 bytes.
        random: gives so many unpredictable bytes.

    Raises:
        PublicKeyMalformed: the document holds no key on P-256.
    """
    public = _public(recovery)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    copy = WrappedVmKey(
        uuid=uuid,
        guardian="recovery",
        nonce=random(12),
        ciphertext=b"",
        key=recovery.id,
        sender=ephemeral.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        ),
        check=check_value(vm_key, uuid),
    )
    secret = _derive(ephemeral.exchange(ec.ECDH(), public), copy)
    return replace(copy, ciphertext=AESGCM(secret).encrypt(copy.nonce, vm_key, uuid.encode()))


def unwrap(private: ec.EllipticCurvePrivateKey, copy: WrappedVmKey, uuid: str) -> bytes:
    """Open the copy of the key of the VM with this UUID.

    Raises:
        CopyRefused: it is for another recovery key, of another VM, or was changed.
    """
    if copy.guardian != "recovery" or copy.key != recovery_key(private, 0).id:
        raise _refused(uuid, "it is not for this recovery key")
    try:
        if copy.uuid != uuid or len(copy.nonce) != 12:
            raise InvalidTag
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), copy.sender)
        secret = _derive(private.exchange(ec.ECDH(), sender), copy)
        vm_key = AESGCM(secret).decrypt(copy.nonce, copy.ciphertext, uuid.encode())
        if not hmac.compare_digest(check_value(vm_key, uuid), copy.check):
            raise InvalidTag
    except (InvalidTag, ValueError) as error:
        raise _refused(uuid, "it is another VM's, or was changed") from error
    return vm_key


def require_same(private: ec.EllipticCurvePrivateKey, wanted: str) -> None:
    """Require that a private half is that of the recovery key with this id.

    Raises:
        RecoveryKeyOther: it is not.
    """
    found = recovery_key(private, 0).id
    if found != wanted:
        raise RecoveryKeyOther(
            "the recovery key was not used",
            cause=f"the file holds {found[:16]}, and this host has {wanted[:16]}",
            remedy="take the file of this host's recovery key",
        )


def seal(recovery: RecoveryKey, host_key: bytes) -> RecoveryKey:
    """Mark the public half as installed under a host's key, so that nobody without that can put another in its place.

    Raises:
        PublicKeyMalformed: the document holds no key on P-256.
    """
    _public(recovery)
    return replace(recovery, seal=_seal(recovery, host_key))


def verify_seal(recovery: RecoveryKey, host_key: bytes) -> None:
    """Require that the public half was installed under the host's key.

    Raises:
        RecoveryKeyUnknown: it was not.
    """
    if not hmac.compare_digest(recovery.seal, _seal(recovery, host_key)):
        raise RecoveryKeyUnknown(
            "no VM key was wrapped for the recovery key",
            cause=f"{recovery.id[:16]} was not installed under this host's key",
            remedy="`vmgate recovery use FILE` if the TPM was cleared; else find out who wrote recovery-key.json",
        )


def _seal(recovery: RecoveryKey, host_key: bytes) -> bytes:
    # The host's key encrypts VM keys with AES; a key of its own makes the MAC.
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_SEAL).derive(host_key)
    return hmac.digest(key, replace(recovery, seal=b"").encode(), "sha256")


def _derive(shared: bytes, copy: WrappedVmKey) -> bytes:
    info = _COPY + bytes.fromhex(copy.key) + copy.uuid.encode() + copy.sender + copy.check
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def _public(recovery: RecoveryKey) -> ec.EllipticCurvePublicKey:
    try:
        public = serialization.load_der_public_key(recovery.public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _malformed() from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise _malformed()
    return public


def _malformed() -> PublicKeyMalformed:
    return PublicKeyMalformed(
        "the recovery key was not used",
        cause="the document holds no public key on P-256",
        remedy="take the public half that `vmgate recovery create` wrote",
    )


def _refused(uuid: str, cause: str) -> CopyRefused:
    return CopyRefused(
        f"the recovery copy of VM {uuid} was not opened", cause=cause, remedy="put back its key-recovery.json"
    )
