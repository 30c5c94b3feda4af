# SPDX-License-Identifier: Apache-2.0
"""The public areas of what vmgate keeps in a TPM, in their wire form, and the names that follow from them.

Source: TPM 2.0 Library Part 2, clauses 12.2.4 (TPMT_PUBLIC) and 13.6 (TPMS_NV_PUBLIC); Part 1, clause 16 (names).
Attributes are part of a name, and names are part of policies: each is written down once, here. No TPM is needed.
"""

from __future__ import annotations

import hashlib
import struct

from documents.release import PolicyKey
from measure.pcr import ALGORITHMS

SHA256 = ALGORITHMS["sha256"]
_NULL = struct.pack(">H", 0x0010)
_AES128_CFB = struct.pack(">HHH", 0x0006, 128, 0x0043)
_ECDSA_SHA256 = struct.pack(">HH", 0x0018, SHA256)
_P256 = struct.pack(">H", 0x0003)

SRK_HANDLE = 0x81000001
"""The storage key of the owner hierarchy (TCG TPM v2.0 Provisioning Guidance, 7.5.1)."""

AK_HANDLE = 0x81010013
"""The attestation key, in the endorsement hierarchy, so that its quotes tell true reset counts."""

COUNTER_INDEX = 0x01800013
"""The host's NV counter, in the owner's range."""

LOADED_HANDLES = (0x02000000, 0x03000000, 0x80000000)
"""Where loaded sessions, saved sessions and transient objects lie."""

COUNTER_ATTRIBUTES = 0x02060012
"""COUNTER | OWNERWRITE | OWNERREAD | AUTHREAD | NO_DA (TPMA_NV); a written counter also has ``NV_WRITTEN``."""

NV_WRITTEN = 0x20000000

STORAGE_ATTRIBUTES = 0x00030472
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt."""

AK_ATTRIBUTES = 0x00050472
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign."""

PURPOSE_ATTRIBUTES = 0x00040432
"""fixedTPM, fixedParent, sensitiveDataOrigin, noDA, sign: usable by its policy only."""

SIGNING_ATTRIBUTES = 0x00040072
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign: usable by its PIN, and wrong ones are counted."""

REQUEST_ATTRIBUTES = 0x00040472
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign: usable in any state, by whoever has the TPM."""

SEALED_ATTRIBUTES = 0x00000412
"""fixedTPM, fixedParent, noDA: opened by its policy only."""

POLICY_KEY_ATTRIBUTES = 0x00040040
"""userWithAuth, sign: of the publisher's key as the TPM loads it."""


def sized(data: bytes) -> bytes:
    """A TPM2B: two bytes of length, then the data."""
    return struct.pack(">H", len(data)) + data


def public_name(public: bytes) -> bytes:
    """The name of an object with a SHA-256 nameAlg, given its TPMT_PUBLIC or TPMS_NV_PUBLIC."""
    return struct.pack(">H", SHA256) + hashlib.sha256(public).digest()


def same_kind(public: bytes, template: bytes) -> bool:
    """Whether a TPMT_PUBLIC has a template's attributes; whether wrong PINs count (noDA, bit 10) does not matter.

    A key of another kind could be one whose private half is known outside.
    """
    return not (int.from_bytes(public[4:8], "big") ^ int.from_bytes(template[4:8], "big")) & ~(1 << 10)


def storage_public() -> bytes:
    """The storage key: ECC P-256, AES-128-CFB."""
    return _ecc(STORAGE_ATTRIBUTES, b"", _AES128_CFB, _NULL, bytes(32), bytes(32))


def attestation_public() -> bytes:
    """The attestation key: ECC P-256, ECDSA with SHA-256. Its ``unique`` keeps it apart from other primary keys."""
    return _ecc(AK_ATTRIBUTES, b"", _NULL, _ECDSA_SHA256, hashlib.sha256(b"vmgate attestation key").digest(), bytes(32))


def purpose_public(auth_policy: bytes) -> bytes:
    """A key that signs for the host for one purpose, under a policy."""
    return _ecc(PURPOSE_ATTRIBUTES, auth_policy, _NULL, _ECDSA_SHA256, b"", b"")


def signing_public() -> bytes:
    """A key that signs for a publisher, under its PIN."""
    return _ecc(SIGNING_ATTRIBUTES, b"", _NULL, _ECDSA_SHA256, b"", b"")


def request_public() -> bytes:
    """A key that proves requests of a host to its fleet; a host whose state is not approved must be able to say so."""
    return _ecc(REQUEST_ATTRIBUTES, b"", _NULL, _ECDSA_SHA256, b"", b"")


def policy_key_public(key: PolicyKey) -> bytes:
    """A publisher's policy key, as ``TPM2_LoadExternal`` takes it."""
    return _ecc(POLICY_KEY_ATTRIBUTES, b"", _NULL, _NULL, bytes.fromhex(key.x), bytes.fromhex(key.y))


def sealed_public(auth_policy: bytes) -> bytes:
    """A sealed secret."""
    return struct.pack(">HHI", 0x0008, SHA256, SEALED_ATTRIBUTES) + sized(auth_policy) + _NULL + sized(b"")


def counter_public(*, written: bool) -> bytes:
    """The host's NV counter, before or after it was first incremented."""
    attributes = COUNTER_ATTRIBUTES | (NV_WRITTEN if written else 0)
    return struct.pack(">IHI", COUNTER_INDEX, SHA256, attributes) + sized(b"") + struct.pack(">H", 8)


def ecdsa_signature(signature: bytes) -> bytes:
    """TPMT_SIGNATURE of an ECDSA P-256 signature with SHA-256, given as r || s."""
    return _ECDSA_SHA256 + sized(signature[:32]) + sized(signature[32:])


def _ecc(attributes: int, auth_policy: bytes, symmetric: bytes, scheme: bytes, x: bytes, y: bytes) -> bytes:
    head = struct.pack(">HHI", 0x0023, SHA256, attributes) + sized(auth_policy)
    return head + symmetric + scheme + _P256 + _NULL + sized(x) + sized(y)
