# SPDX-License-Identifier: Apache-2.0
"""Private keys in encrypted files: PKCS#8 (RFC 5958) in PEM, P-256 or P-384. Knows no role and signs nothing."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from content import durable
from keys.errors import KeyExists, KeyFileMalformed, KeyUnencrypted, PassphraseWrong
from keys.roles import P256, P384

LIMIT = 4096
"""The most bytes of a key file that are read."""

_CURVES: dict[str, ec.EllipticCurve] = {P256: ec.SECP256R1(), P384: ec.SECP384R1()}
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


def create_key(path: Path, curve: str, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """Make a key and write its file, readable for the owner alone.

    Args:
        path: its file; the folder must exist.
        curve: one of ``keys.roles.CURVES``.
        passphrase: not empty.

    Raises:
        KeyExists: the file is there.
        KeyUnencrypted: the passphrase is empty.
        ContentError: it could not be written.
    """
    if not passphrase:
        raise KeyUnencrypted("the key was not made", cause="the passphrase is empty", remedy="give a passphrase")
    if path.exists() or path.is_symlink():
        raise KeyExists("the key was not made", cause=f"{path} is there already", remedy="choose another folder")
    key = ec.generate_private_key(_CURVES[curve])
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    durable.write_file(path, pem, 0o600)
    return key


def load_key(path: Path, curve: str, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """Open a key file.

    Raises:
        KeyUnencrypted: the key lies in the clear.
        PassphraseWrong: it does not open.
        KeyFileMalformed: it is no such file, or the key is on another curve.
        ContentError: it cannot be read.
    """
    untrusted_pem = durable.read_file(path, LIMIT)
    if not untrusted_pem.startswith(_ENCRYPTED):
        if b"PRIVATE KEY-----" in untrusted_pem:
            raise KeyUnencrypted(
                "the key was not used",
                cause=f"{path} holds it unencrypted",
                remedy="encrypt it, for example with `openssl pkcs8 -topk8`, and remove the old file",
            )
        raise _malformed(path, "it is not an encrypted PKCS#8 PEM file")
    try:
        if not passphrase:
            raise ValueError("no passphrase")
        key = serialization.load_pem_private_key(untrusted_pem, passphrase)
    except ValueError as error:
        raise PassphraseWrong(
            "the key was not used",
            cause=f"{path} did not open: a wrong passphrase, or a damaged file",
            remedy="try again with the right passphrase",
        ) from error
    except (TypeError, UnsupportedAlgorithm) as error:
        raise _malformed(path, "it is encrypted or encoded in a way that is not supported") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve:
        raise _malformed(path, f"it does not hold a {curve} key")
    return key


def _malformed(path: Path, why: str) -> KeyFileMalformed:
    return KeyFileMalformed("the key was not used", cause=f"{path}: {why}", remedy="name the right key file")
