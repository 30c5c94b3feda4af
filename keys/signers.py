# SPDX-License-Identifier: Apache-2.0
"""Signers by address: what signs TUF metadata. Only ``file:/path`` for now. Decides nothing about what is signed."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.exceptions import UnsupportedLibraryError, VerificationError
from securesystemslib.signer import CryptoSigner

from keys.errors import SigningUnsupported, UnknownSigner
from keys.files import load_key
from keys.roles import key_names, role

_FILE = "file:"


def open_signer(uri: str, curve: str, passphrase: bytes) -> CryptoSigner:
    """The signer at an address.

    Args:
        uri: ``file:`` and the absolute path of a key file.
        curve: that its key must be on.
        passphrase: opens the key file.

    Raises:
        UnknownSigner: an address of another kind.
        KeysError: the key does not open or is not of that kind.
        ContentError: the file cannot be read.
    """
    path = Path(uri.removeprefix(_FILE))
    if not uri.startswith(_FILE) or not path.is_absolute():
        raise UnknownSigner(
            "there is no such signer",
            cause=f"{uri!r} is not `file:` and an absolute path",
            remedy="name a key file",
        )
    return CryptoSigner(load_key(path, curve, passphrase))


def open_role(name: str, folder: Path, passphrase: bytes) -> list[CryptoSigner]:
    """The signers of a role whose key files are in a folder, enough for its threshold.

    Raises:
        KeysError: a key does not open or is not of the role's kind.
        ContentError: fewer key files than the threshold can be read.
    """
    wanted = role(name)
    paths = [folder.absolute() / f"{key}.pem" for key in key_names(name)]
    # A ceremony may have spread the keys; naming the first missing file says more than a count.
    there = [path for path in paths if path.exists()]
    chosen = (there + [path for path in paths if path not in there])[: wanted.threshold]
    return [open_signer(f"{_FILE}{path}", wanted.curve, passphrase) for path in chosen]


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
