# SPDX-License-Identifier: Apache-2.0
"""Keys that a TPM made and never gives out: a file that only this TPM can use, and a PIN.

For roles on P-256 alone, since many chips refuse P-384. A connection to the TPM lasts as long as one use of a key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from content.durable import read_file, write_file
from documents.tpm_key import TpmKey
from keys.addresses import TpmAddress
from keys.errors import CurveRefused, KeyExists, PinWrong, TpmUnusable, UnknownSigner
from keys.roles import P256
from keys.tpm import MAX_PIN, SigningTpm
from keys.unlock import Unlock

SUFFIX = ".tpm"
"""Of such a file in the folder of keys."""

_MAX_PIN_FILE = 256


class TpmSigner(Signer):
    """Signs with a key of a TPM: ECDSA P-256 with SHA-256.

    Args:
        address: where its file is.
        curve: that it must be on.
        secrets: the TPM, if the address names none, and the PIN.

    Raises:
        CurveRefused: that is not P-256.
        TpmUnusable: nobody named the TPM, or it does not answer.
        KeyOfAnotherTpm: it does not know the key.
        DocumentError: the file is malformed.
        ContentError: it cannot be read.
    """

    def __init__(self, address: TpmAddress, curve: str, secrets: Unlock) -> None:
        _require_p256(curve)
        self._address = address
        self._secrets = secrets
        self._key = TpmKey.parse(read_file(address.path, TpmKey.LIMIT))
        self._tpm = _reach(address.tcti or secrets.tcti, secrets)
        self._public_key = SSlibKey.from_crypto(self._tpm.public(self._key))

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Not offered: a TPM must be named, see ``keys.signers``."""
        raise UnknownSigner("there is no such signer", cause="a TPM must be named", remedy="open it by keys.signers")

    def sign(self, payload: bytes) -> Signature:
        """Sign.

        Raises:
            PinWrong: the TPM refuses the PIN.
            TpmUnusable: the TPM is gone, or nobody gave the PIN.
            KeyOfAnotherTpm: it is another one by now.
        """
        pin = _pin(self._key.name, self._address.pin_file, self._secrets)
        made = self._tpm.sign(self._key, pin, hashlib.sha256(payload).digest())
        return Signature(self._public_key.keyid, made.hex())


def create_tpm_key(path: Path, name: str, curve: str, secrets: Unlock) -> Key:
    """Make a key in the TPM that ``secrets`` names, and write its file, readable for the owner alone.

    Args:
        path: the file; its folder must exist.
        name: of the key, such as ``timestamp-2``.
        curve: that its role needs.
        secrets: the TPM, and the new PIN.

    Raises:
        CurveRefused: the role needs another curve than P-256.
        KeyExists: the file is there.
        PinWrong: the PIN is empty or too long.
        TpmUnusable: nobody named the TPM, or it does not answer.
        ContentError: it could not be written.
    """
    _require_p256(curve)
    if path.exists() or path.is_symlink():
        raise KeyExists("the key was not made", cause=f"{path} is there already", remedy="choose another folder")
    tpm = _reach(secrets.tcti, secrets)
    key = tpm.create(name, _pin(name, None, secrets))
    public = SSlibKey.from_crypto(tpm.public(key))
    write_file(path, key.encode(), 0o600)
    return public


def _require_p256(curve: str) -> None:
    if curve != P256:
        raise CurveRefused(
            "a key in a TPM was not used",
            cause=f"its role signs with {curve}, which many TPMs refuse",
            remedy="keep this role's keys in encrypted files or on a token",
        )


def _reach(tcti: str, secrets: Unlock) -> SigningTpm:
    if not tcti:
        raise _unusable("nobody said which TPM has it", "name it: --tcti device:/dev/tpmrm0, or `tcti` in the address")
    if secrets.tpm is None:
        raise _unusable("this program does not reach TPMs", "use the command `vmgate repo`")
    return secrets.tpm(tcti)


def _pin(name: str, file: Path | None, secrets: Unlock) -> bytes:
    if file is not None:
        pin = read_file(file, _MAX_PIN_FILE).rstrip(b"\n")
    elif secrets.pin is not None:
        pin = secrets.pin(name).encode()
    else:
        raise _unusable(f"nobody gave the PIN of {name}", "give --pin-file, or `pin-source` in the address")
    # A TPM drops zeros at the end of a PIN: another one would do as well.
    if not 0 < len(pin) <= MAX_PIN or pin.endswith(b"\0"):
        raise PinWrong(
            "the key was not used",
            cause=f"a PIN of a key in a TPM has 1 to {MAX_PIN} bytes and no zero at its end",
            remedy="give another PIN",
        )
    return pin


def _unusable(why: str, remedy: str) -> TpmUnusable:
    return TpmUnusable("the key in the TPM was not used", cause=why, remedy=remedy)
