# SPDX-License-Identifier: Apache-2.0
"""Signers of TUF metadata, by the name of their key. Decides nothing about what is signed.

A folder of keys holds encrypted files, ``<role>-<n>.pem``, and files of keys that a TPM made, ``<role>-<n>.tpm``. It
may hold ``signers.toml``, which says where keys are that do not lie there:

    [signers]
    root-1 = "pkcs11:token=vendor;object=root-1"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.exceptions import UnsupportedLibraryError, VerificationError
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from content.durable import read_file
from content.errors import Missing
from keys.addresses import FileAddress, TpmAddress, parse_address, tpm_uri
from keys.errors import NoSuchKey, PublicKeyMalformed, SignersMalformed, SigningUnsupported
from keys.files import LIMIT as KEY_LIMIT
from keys.files import load_key
from keys.roles import key_names, role
from keys.token import TokenSigner
from keys.tpm_signer import SUFFIX, TpmSigner
from keys.unlock import Secret, unlock

SIGNERS = "signers.toml"
LIMIT = 100_000
"""Bytes of ``signers.toml``."""


def open_signer(uri: str, curve: str, secret: Secret) -> Signer:
    """The signer at an address.

    Args:
        uri: see ``keys.addresses``.
        curve: that its key must be on.
        secret: opens it.

    Raises:
        UnknownSigner: an address of another kind.
        KeysError: the key does not open or is not of that kind.
        ContentError: a file cannot be read.
    """
    address = parse_address(uri)
    secrets = unlock(secret)
    if isinstance(address, FileAddress):
        return CryptoSigner(load_key(address.path, curve, secrets.passphrase()))
    if isinstance(address, TpmAddress):
        return TpmSigner(address, curve, secrets)
    return TokenSigner(address, curve, secrets)


def open_key(name: str, folder: Path, secret: Secret) -> Signer:
    """The signer of a key such as ``root-1``: where ``signers.toml`` says, else in a TPM's or a file of that name.

    Raises:
        NoSuchKey: it is in neither.
        KeysError: the key does not open or is not of its role's kind.
        ContentError: a file cannot be read.
        ValueError: the name of no key.
    """
    uri = declared(folder).get(name) or f"file:{folder.absolute() / name}.pem"
    try:
        return open_signer(uri, role(name.rpartition("-")[0]).curve, secret)
    except Missing as error:
        raise NoSuchKey(
            "the key was not used", cause=error.cause, remedy=f"bring it, or say in {SIGNERS} where it is"
        ) from error


def open_role(name: str, folder: Path, secret: Secret, keyids: Collection[str] | None = None) -> list[Signer]:
    """The signers of a role that are here.

    Args:
        name: of the role.
        folder: of the keys.
        secret: opens them.
        keyids: of the keys that count; without, as many as a new repository's threshold, which must be here.

    Raises:
        KeysError: a key does not open, is not of the role's kind, or (without ``keyids``) is not here.
        ContentError: a file cannot be read.
    """
    if keyids is None:
        # Naming the first missing key says more than a count.
        names = [*names_here(name, folder), *(key for key in key_names(name) if key not in names_here(name, folder))]
        return [open_key(key, folder, secret) for key in names[: role(name).threshold]]
    found = (open_key(key, folder, secret) for key in names_here(name, folder))
    return [signer for signer in found if signer.public_key.keyid in keyids]


def names_here(name: str, folder: Path) -> tuple[str, ...]:
    """The names of a role's keys that are here, in the order of their numbers.

    Raises:
        SignersMalformed: ``signers.toml`` has a mistake.
        ContentError: it cannot be read.
    """
    pattern = re.compile(re.escape(name) + r"-([1-9][0-9]{0,5})")
    known = {*declared(folder), *(path.stem for path in folder.glob(f"{name}-*.pem"))}
    return tuple(sorted(filter(pattern.fullmatch, known), key=lambda key: int(key.rpartition("-")[2])))


def declared(folder: Path) -> Mapping[str, str]:
    """Addresses by the names of keys: those that a TPM made in this folder, and over them what ``signers.toml`` says.

    Raises:
        SignersMalformed: it has a mistake.
        ContentError: it cannot be read.
    """
    path = folder / SIGNERS
    here = {file.stem: tpm_uri(file.absolute()) for file in folder.glob(f"*{SUFFIX}")}
    try:
        untrusted = tomllib.loads(read_file(path, LIMIT).decode())
    except Missing:
        return here
    except (ValueError, RecursionError) as error:
        raise _malformed(path, str(error)) from error
    table = untrusted.pop("signers", None)
    if untrusted or not isinstance(table, dict):
        raise _malformed(path, "it has more or something else than the table [signers]")
    for name, uri in table.items():
        base, _, number = name.rpartition("-")
        try:
            role(base)
        except ValueError as error:
            raise _malformed(path, f"{name[:60]!r} is not the name of a key") from error
        if not number.isdecimal() or not isinstance(uri, str):
            raise _malformed(path, f"{name[:60]!r} is not the name of a key with an address")
    return here | table


def read_public(path: Path, curve: str) -> Key:
    """The public key in a PEM file, such as somebody else sent.

    Raises:
        PublicKeyMalformed: it holds none on that curve.
        ContentError: it cannot be read.
    """
    try:
        key = serialization.load_pem_public_key(read_file(path, KEY_LIMIT))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_public(path, "no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        raise _not_public(path, f"not a {curve} key")
    return SSlibKey.from_crypto(key)


def require_signing() -> None:
    """Sign and verify once. securesystemslib without ``cryptography`` would call all metadata unsigned, silently.

    Raises:
        SigningUnsupported: signatures cannot be made or checked here.
    """
    try:
        signer = CryptoSigner.generate_ecdsa()
        signer.public_key.verify_signature(signer.sign(b"vmgate"), b"vmgate")
    except (UnsupportedLibraryError, VerificationError, ImportError) as error:
        raise SigningUnsupported(
            "signatures cannot be checked",
            cause=f"the `cryptography` library is missing or does not work ({error})",
            remedy="install vmgate with its dependencies again",
        ) from error


def _malformed(path: Path, why: str) -> SignersMalformed:
    return SignersMalformed("the keys were not looked up", cause=f"{path}: {why}"[:300], remedy="correct the file")


def _not_public(path: Path, why: str) -> PublicKeyMalformed:
    return PublicKeyMalformed("the public key was not used", cause=f"{path}: {why}", remedy="name the right file")
