# SPDX-License-Identifier: Apache-2.0
"""Keys on a PKCS#11 token (v2.40): what signs with one, behind the interface that python-tuf uses.

The only module that loads ``pkcs11``, and only when a token is used. The library that speaks to the token is named by
the user and never searched for, since it is loaded into this process. A session lasts as long as one signature. Keys
are made with the token's own tools.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from content.durable import read_file
from keys.addresses import TokenAddress
from keys.errors import PinWrong, TokenUnusable, UnknownSigner
from keys.roles import P256
from keys.unlock import Unlock

if TYPE_CHECKING:
    import pkcs11

MAX_PIN = 256
"""Bytes of a file with a PIN."""


class TokenSigner(Signer):
    """Signs with an EC key on a token: ECDSA with SHA-256 on P-256, with SHA-384 on P-384.

    Args:
        address: which key.
        curve: that it must be on.
        secrets: the module, if the address names none, and the PIN.

    Raises:
        TokenUnusable: no module or token, or not exactly one such key, or it is on another curve.
        PinWrong: the token refuses the PIN.
        ContentError: the file with the PIN cannot be read.
    """

    def __init__(self, address: TokenAddress, curve: str, secrets: Unlock) -> None:
        self._address = address
        self._library = _load(address, secrets)
        self._secrets = secrets
        self._hash = hashes.SHA256() if curve == P256 else hashes.SHA384()
        with self._session() as session:
            self._public_key = SSlibKey.from_crypto(self._read_public(session, curve))

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Not offered: a token needs its module named, see ``keys.signers``."""
        raise UnknownSigner(
            "there is no such signer", cause="a token needs its module", remedy="open it by keys.signers"
        )

    def sign(self, payload: bytes) -> Signature:
        """Sign; tokens that hash by themselves are rarer than those that do not, so the digest is made here.

        Raises:
            TokenUnusable: the token or the key is gone, or it refuses.
            PinWrong: the token refuses the PIN.
        """
        from pkcs11 import Mechanism, ObjectClass

        digest = hashes.Hash(self._hash)
        digest.update(payload)
        with self._session() as session:
            key = self._find(session, ObjectClass.PRIVATE_KEY)
            raw: bytes = key.sign(digest.finalize(), mechanism=Mechanism.ECDSA)
        half = len(raw) // 2
        der = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
        return Signature(self._public_key.keyid, der.hex())

    @contextmanager
    def _session(self) -> Iterator[pkcs11.Session]:
        from pkcs11 import exceptions

        wanted = {"token_label": self._address.token}
        if self._address.serial:
            wanted["token_serial"] = self._address.serial
        try:
            token: Any = self._library.get_token(**wanted)
            with token.open(user_pin=_pin(self._address, self._secrets)) as session:
                yield session
        except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange, exceptions.PinLocked) as error:
            raise PinWrong(
                "the key was not used",
                cause=f"token {self._address.token}: {type(error).__name__}",
                remedy="check the PIN before you try again: a token locks after a few wrong ones",
            ) from error
        except exceptions.PKCS11Error as error:
            raise _unusable(f"token {self._address.token}: {type(error).__name__} {error}".rstrip()) from error

    def _find(self, session: pkcs11.Session, kind: pkcs11.ObjectClass) -> Any:
        """The one object that is meant; all are asked for, since a search left half done troubles the session."""
        from pkcs11 import Attribute

        wanted: dict[Any, Any] = {Attribute.CLASS: kind}
        if self._address.label:
            wanted[Attribute.LABEL] = self._address.label
        if self._address.identifier:
            wanted[Attribute.ID] = self._address.identifier
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise _unusable(f"token {self._address.token} has {len(found)} objects of that name and kind {kind.name}")
        return found[0]

    def _read_public(self, session: pkcs11.Session, curve: str) -> ec.EllipticCurvePublicKey:
        from pkcs11 import KeyType, ObjectClass
        from pkcs11.util.ec import encode_ec_public_key

        found = self._find(session, ObjectClass.PUBLIC_KEY)
        key = None
        if found.key_type == KeyType.EC:
            try:
                key = serialization.load_der_public_key(encode_ec_public_key(found))
            except (ValueError, TypeError) as error:
                raise _unusable(f"the public key on token {self._address.token} is malformed") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
            raise _unusable(f"the key on token {self._address.token} is not on {curve}")
        return key


def _load(address: TokenAddress, secrets: Unlock) -> Any:
    module = address.module or secrets.module
    if module is None:
        raise _unusable("nobody said which library speaks to it")
    try:
        import pkcs11
    except ImportError as error:
        raise _unusable("the Python package python-pkcs11 is not installed") from error
    try:
        return pkcs11.lib(str(module))
    except (RuntimeError, OSError, pkcs11.PKCS11Error) as error:
        raise _unusable(f"{module} is no PKCS#11 library, or it does not start ({type(error).__name__})") from error


def _pin(address: TokenAddress, secrets: Unlock) -> str:
    if address.pin_file is not None:
        try:
            return read_file(address.pin_file, MAX_PIN).rstrip(b"\n").decode()
        except UnicodeDecodeError as error:
            raise _unusable(f"{address.pin_file} holds no PIN") from error
    if secrets.pin is None:
        raise _unusable(f"nobody gave the PIN of token {address.token}")
    return secrets.pin(address.token)


def _unusable(why: str) -> TokenUnusable:
    return TokenUnusable(
        "the key on the token was not used", cause=why[:300], remedy="check the token, its library and the key's name"
    )
