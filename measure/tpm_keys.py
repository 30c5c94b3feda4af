# SPDX-License-Identifier: Apache-2.0
"""A publisher's keys in a TPM: what ``keys.tpm`` asks for, by ``measure.tpm``. Keeps no connection and no key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import ec

from documents.tpm_key import TpmKey
from keys.errors import KeyFileMalformed, KeyOfAnotherTpm, TpmUnusable
from measure.errors import MeasureError, NotForThisTpm, QuoteRefused, TpmMissing
from measure.structures import parse_public, parse_signature
from measure.templates import signing_public, sized
from measure.tpm import Tpm


class TpmKeys:
    """A ``keys.tpm.SigningTpm``; each call is a connection of its own.

    Args:
        tcti: such as ``device:/dev/tpmrm0``.
    """

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti

    def create(self, name: str, pin: bytes) -> TpmKey:
        """See ``SigningTpm``."""
        with self._connected(name) as tpm:
            public, private = tpm.create(signing_public(), pin=pin)
        return TpmKey(name=name, public=public, private=private)

    def public(self, key: TpmKey) -> ec.EllipticCurvePublicKey:
        """See ``SigningTpm``."""
        area = key.public[2:]
        # All but the point is the same for every such key: made inside one TPM, and used by its PIN.
        if key.public != sized(area) or not area.startswith(signing_public().removesuffix(sized(b"") * 2)):
            raise _malformed(key.name, "it holds no public key that vmgate lets a TPM make")
        try:
            found = parse_public(area).key
        except QuoteRefused as error:
            raise _malformed(key.name, error.cause) from error
        if not isinstance(found, ec.EllipticCurvePublicKey):
            raise _malformed(key.name, "it is not on P-256")
        with self._connected(key.name) as tpm:
            tpm.check_key(key.public, key.private)
        return found

    def sign(self, key: TpmKey, pin: bytes, digest: bytes) -> bytes:
        """See ``SigningTpm``."""
        with self._connected(key.name) as tpm:
            return parse_signature(tpm.sign_digest(key.public, key.private, pin, digest)).value

    @contextmanager
    def _connected(self, name: str) -> Iterator[Tpm]:
        what, where = f"the key {name} in a TPM was not used", self._tcti
        try:
            with Tpm.open(where) as tpm:
                yield tpm
        except NotForThisTpm as error:
            cause = f"the TPM at {where} did not make it, or was cleared since"
            remedy = "name the right TPM, or take the key's file out of the folder"
            raise KeyOfAnotherTpm(what, cause=cause, remedy=remedy) from error
        except TpmMissing as error:
            cause = f"no TPM answers at {where}: {error.cause}"
            raise TpmUnusable(what, cause=cause, remedy="name the right TPM") from error
        except MeasureError as error:
            raise TpmUnusable(what, cause=error.cause, remedy="look at the TPM") from error


def _malformed(name: str, why: str) -> KeyFileMalformed:
    return KeyFileMalformed(f"the key {name} in a TPM was not used", cause=why, remedy="name the right file")
