# SPDX-License-Identifier: Apache-2.0
"""What a TPM policy key signs: PCR values by name, for one channel in one security epoch. Pure.

Source: TPM 2.0 Library Part 3, clause 23.7 (TPM2_PolicyPCR) and Part 2, clause 10.6 (PCR selections). It lies this low
so that a signer computes by itself what it signs. The other terms of a host's policy are ``measure.policy``'s. This
module signs nothing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from documents.canonical import encode

EMPTY: Final = bytes(32)
"""The policy digest of a session that has run no policy command yet: anything satisfies it."""

CC_POLICY_PCR: Final = 0x0000017F
PCRS: Final = 24
SIGNED_PCRS: Final = frozenset({11, 13})
"""What a publisher can predict: the kernel image, and the VMM, which no policy leaves out."""

VMM: Final = 13

_SHA256: Final = 0x000B
_RESET: Final = frozenset({bytes(32), b"\xff" * 32})


def policy_ref(channel: str, epoch: int) -> bytes:
    """What a signed policy is for: one channel in one security epoch (0 for purpose keys)."""
    return hashlib.sha256(encode({"type": "vmgate.policy-ref", "channel": channel, "epoch": epoch})).digest()


def pcr_selection(indexes: Iterable[int]) -> bytes:
    """TPML_PCR_SELECTION of PCRs in the SHA-256 bank.

    Raises:
        ValueError: none, or one that does not exist: a bug.
    """
    bitmap = bytearray(3)
    for index in indexes:
        if not 0 <= index < PCRS:
            raise ValueError(f"there is no PCR {index}")
        bitmap[index // 8] |= 1 << index % 8
    if not any(bitmap):
        raise ValueError("no PCR is selected")
    return struct.pack(">IHB", 1, _SHA256, 3) + bytes(bitmap)


def pcr_policy(pcrs: Mapping[int, str], previous: bytes = EMPTY) -> bytes:
    """The policy after ``TPM2_PolicyPCR``; values are SHA-256 in hexadecimal, by index."""
    values = b"".join(bytes.fromhex(pcrs[index]) for index in sorted(pcrs))
    if len(values) != 32 * len(pcrs):
        raise ValueError("a value of the SHA-256 bank has 32 bytes")
    arguments = pcr_selection(pcrs) + hashlib.sha256(values).digest()
    return hashlib.sha256(previous + struct.pack(">I", CC_POLICY_PCR) + arguments).digest()


def measured(value: bytes) -> bool:
    """Whether a PCR's value is of something: at a reset value nothing was extended."""
    return value not in _RESET


def signable(pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
    """The message that a policy key signs: approvedPolicy || policyRef, 64 bytes.

    Args:
        pcrs: predicted values by index, SHA-256 in hexadecimal.
        channel: the platform channel.
        epoch: the security epoch, 0 for purpose keys.

    Raises:
        ValueError: PCR 13 is missing, another PCR than 11 is there, or one is empty: a bug, and never signed.
    """
    if VMM not in pcrs or not set(pcrs) <= SIGNED_PCRS:
        raise ValueError("a signed policy is about PCR 13, or 11 and 13")
    if not all(measured(bytes.fromhex(value)) for value in pcrs.values()):
        raise ValueError("a policy for an empty PCR is never signed: nothing was measured there")
    return pcr_policy(pcrs) + policy_ref(channel, epoch)
