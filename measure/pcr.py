# SPDX-License-Identifier: Apache-2.0
"""Platform configuration registers: which ones vmgate uses, and how one is extended.

Source: TPM 2.0 Library Part 1, clause 17 (PCR operations); PC Client Platform TPM Profile, clause 4.6 (reset values).
This module does not talk to a TPM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

VMM_PCR = 13
"""Only what a platform release names and can predict; keys are sealed against it."""

LAUNCH_PCR = 12
"""Everything host-local, and each launch, stop and key drop; judged by events, never sealed against."""

BOOT_PCRS = tuple(range(12))
"""What firmware, kernel image and kernel extend before vmgate runs: 0 to 7 and 9 in the boot log, 10 in the IMA list,
11 in the boot log and by systemd; 8 by boot loaders that we do not use, and by stubs that take another command line."""

SECURE_BOOT_PCR = 7
"""Whether Secure Boot is on, its keys, and which of them vouched for what ran (PC Client PFP 1.06, 3.3.4.8)."""

KERNEL_IMAGE_PCR = 11
"""The sections of a unified kernel image, and the phases of the boot (systemd-stub(7), systemd-pcrphase.service(8))."""

PCRS = 24

ALGORITHMS: Mapping[str, int] = MappingProxyType({"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D})
"""Names of PCR banks and their TPM_ALG_ID (TCG Algorithm Registry), the weakest first."""


# Looked up and not made by name: the replay of a log wants it for each event.
_HASHES: Mapping[str, Callable[..., hashlib._Hash]] = MappingProxyType(
    {alg: getattr(hashlib, alg) for alg in ALGORITHMS}
)


def digest_size(alg: str) -> int:
    """Bytes of one value of a bank."""
    return _hash(alg)().digest_size


def measure(alg: str, content: bytes) -> bytes:
    """The digest that a bank is extended with for an event of this content."""
    return _hash(alg)(content).digest()


def extend(alg: str, old: bytes, digest: bytes) -> bytes:
    """The value of a PCR after it was extended.

    Raises:
        ValueError: a value or digest has not the size of the bank: a bug.
    """
    size = digest_size(alg)
    if len(old) != size or len(digest) != size:
        raise ValueError(f"a value of the {alg} bank has {size} bytes")
    return _hash(alg)(old + digest).digest()


def reset_value(alg: str, index: int) -> bytes:
    """The value of a PCR after a start of the TPM: zeros, and ones for the dynamic PCRs 17 to 22."""
    return (b"\xff" if 17 <= index <= 22 else b"\0") * digest_size(alg)


def _hash(alg: str) -> Callable[..., hashlib._Hash]:
    return _HASHES.get(alg) or partial(hashlib.new, alg)
