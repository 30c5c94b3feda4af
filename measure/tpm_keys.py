# SPDX-License-Identifier: Apache-2.0
"""A publisher's keys in a TPM: what ``keys.tpm`` asks for, by ``measure.tpm``. Keeps no connection and no key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import ec

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

    def create(self, pin: bytes) -> tuple[bytes, bytes]:
        """See ``SigningTpm``."""
        with self._connected() as tpm:
            return tpm.create(signing_public(), pin=pin)

    def public(self, public: bytes, private: bytes) -> ec.EllipticCurvePublicKey:
        """See ``SigningTpm``."""
        area = public[2:]
        # All but the point is the same for every such key: made inside one TPM, and used by its PIN.
        if public != sized(area) or not area.startswith(signing_public().removesuffix(sized(b"") * 2)):
            raise _malformed("it holds no public key that vmgate lets a TPM make")
        try:
            key = parse_public(area).key
        except QuoteRefused as error:
            raise _malformed(error.cause) from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise _malformed("it is not on P-256")
        with self._connected() as tpm:
            tpm.check_key(public, private)
        return key

    def sign(self, public: bytes, private: bytes, pin: bytes, digest: bytes) -> bytes:
        """See ``SigningTpm``."""
        with self._connected() as tpm:
            return parse_signature(tpm.sign_digest(public, private, pin, digest)).value

    @contextmanager
    def _connected(self) -> Iterator[Tpm]:
        what = "the key in the TPM was not used"
        try:
            with Tpm.open(self._tcti) as tpm:
                yield tpm
        except NotForThisTpm as error:
            raise KeyOfAnotherTpm(
                what,
                cause=f"the TPM at {self._tcti} did not make it, or was cleared since",
                remedy="name the right TPM",
            ) from error
        except TpmMissing as error:
            raise TpmUnusable(
                what, cause=f"no TPM answers at {self._tcti}: {error.cause}", remedy="name the right TPM"
            ) from error
        except MeasureError as error:
            raise TpmUnusable(what, cause=error.cause, remedy="look at the TPM") from error


def _malformed(why: str) -> KeyFileMalformed:
    return KeyFileMalformed("the key in the TPM was not used", cause=why, remedy="name the right file")
