# SPDX-License-Identifier: Apache-2.0
"""The host's key-encryption key and the VM keys under it.

One 32-byte key is sealed by the TPM; every VM's key is wrapped by it in software, so that a new security epoch re-seals
one thing. This module stores nothing and logs nothing; after ``shut_older`` the caller logs an event in PCR 12, which
closes sessions that were satisfied before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from documents.host_state import SealedKey, WrappedVmKey
from documents.release import PolicyKey, SignedPolicy
from measure.errors import KeyRefused, SealShut
from measure.pcr import VMM_PCR
from measure.policy import seal_policy

KEY_SIZE = 32
"""Bytes of the host's key and of a VM's."""

Random = Callable[[int], bytes]
"""Gives so many unpredictable bytes, such as ``os.urandom``."""


class SealingTpm(Protocol):
    """The part of a TPM that keeps a key; ``measure.tpm.Tpm`` is one."""

    def read_pcrs(self, alg: str, indexes: Collection[int]) -> dict[int, bytes]:
        """Values of PCRs of one bank."""
        ...

    def counter(self) -> int:
        """The host's NV counter."""
        ...

    def raise_counter(self, least: int) -> int:
        """Raise it to at least this value."""
        ...

    def seal(self, secret: bytes, auth_policy: bytes) -> tuple[bytes, bytes]:
        """Seal a secret: TPM2B_PUBLIC, TPM2B_PRIVATE."""
        ...

    def unseal(self, sealed: SealedKey, policy: SignedPolicy, local_pcrs: Collection[int] = ()) -> bytes:
        """Open it under a signed policy."""
        ...


def create(tpm: SealingTpm, channel: str, epoch: int, key: PolicyKey, random: Random) -> tuple[bytes, SealedKey]:
    """Make a host's key and seal it for a channel's epoch, up to the counter's present value."""
    kek = random(KEY_SIZE)
    return kek, seal(tpm, kek, channel=channel, epoch=epoch, key=key, counter=tpm.counter())


def seal(
    tpm: SealingTpm,
    kek: bytes,
    *,
    channel: str,
    epoch: int,
    key: PolicyKey,
    counter: int,
    local_pcrs: Mapping[int, str] | None = None,
) -> SealedKey:
    """Seal the host's key (again).

    Args:
        tpm: the host's.
        kek: 32 bytes.
        channel: the platform channel.
        epoch: the security epoch whose policies open it.
        key: the policy key whose policies open it.
        counter: highest value of the host's counter at which it opens. A key for a raised epoch gets one more than
            the present value, is made durable, and only then ``shut_older`` is called.
        local_pcrs: further PCRs and their SHA-256 values in hexadecimal, such as 7 where Secure Boot is on.
    """
    if len(kek) != KEY_SIZE:
        raise ValueError(f"the host's key has {KEY_SIZE} bytes")
    public, private = tpm.seal(kek, seal_policy(key, channel, epoch, counter, local_pcrs))
    return SealedKey(public=public, private=private, channel=channel, epoch=epoch, counter=counter, key=key)


def unseal(
    tpm: SealingTpm, sealed: SealedKey, policies: Iterable[SignedPolicy], local_pcrs: Collection[int] = ()
) -> bytes:
    """Open the host's key with the signed policy for the state that the host is in.

    Args:
        tpm: the host's.
        sealed: as it was stored.
        policies: of the active platform release.
        local_pcrs: as ``seal`` had them.

    Raises:
        SealShut: no policy is for the key's epoch and the present VMM PCR, or the TPM did not open it with any.
        NotForThisTpm: sealed by another TPM.
    """
    found = tpm.read_pcrs("sha256", [VMM_PCR])[VMM_PCR].hex()
    shut = SealShut(
        "the host's key was not opened",
        cause=f"no policy of the release is for epoch {sealed.epoch} and PCR {VMM_PCR} = {found}",
        remedy="reboot to measure all anew; `vmgate measure show` tells what differs",
        term="state",
    )
    for policy in policies:
        if policy.epoch != sealed.epoch or dict(policy.pcrs).get(VMM_PCR) != found:
            continue
        try:
            return tpm.unseal(sealed, policy, local_pcrs)
        except SealShut as error:
            shut = error
    raise shut


def shut_older(tpm: SealingTpm, sealed: SealedKey) -> int:
    """Make every key that was sealed up to a lower counter stay shut for good. Safe to repeat after a crash.

    Call it when ``sealed`` is durable; then log an event in PCR 12.

    Returns:
        The counter's value.
    """
    return tpm.raise_counter(sealed.counter)


def wrap(kek: bytes, uuid: str, vm_key: bytes, random: Random) -> WrappedVmKey:
    """Encrypt a VM's key for this host (AES-256-GCM, the UUID as associated data)."""
    nonce = random(12)
    ciphertext = AESGCM(kek).encrypt(nonce, vm_key, uuid.encode())
    return WrappedVmKey(uuid=uuid, guardian="tpm", nonce=nonce, ciphertext=ciphertext)


def unwrap(kek: bytes, wrapped: WrappedVmKey, uuid: str) -> bytes:
    """The key of the VM with this UUID.

    Raises:
        KeyRefused: changed, another VM's, or wrapped by another host.
    """
    try:
        if len(wrapped.nonce) != 12 or wrapped.uuid != uuid:
            raise InvalidTag
        return AESGCM(kek).decrypt(wrapped.nonce, wrapped.ciphertext, uuid.encode())
    except InvalidTag as error:
        raise KeyRefused(
            f"the key of VM {uuid} was not opened",
            cause="it is not what this host wrapped for this VM",
            remedy="put back the file key-tpm.json of this VM; without it what its TPM held is lost",
        ) from error
