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
from measure.policy import seal_policy, state_of

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

    def unseal(self, sealed: SealedKey, policy: SignedPolicy) -> bytes:
        """Open it under a signed policy."""
        ...


def create(
    tpm: SealingTpm, channel: str, epoch: int, key: PolicyKey, random: Random, local_pcrs: Collection[int] = ()
) -> tuple[bytes, SealedKey]:
    """Make a host's key and seal it for a channel's epoch, up to the counter's present value. See ``seal``."""
    kek = random(KEY_SIZE)
    counter = tpm.counter()
    return kek, seal(tpm, kek, channel=channel, epoch=epoch, key=key, counter=counter, local_pcrs=local_pcrs)


def seal(
    tpm: SealingTpm,
    kek: bytes,
    *,
    channel: str,
    epoch: int,
    key: PolicyKey,
    counter: int,
    local_pcrs: Collection[int] = (),
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
        local_pcrs: further PCRs that it needs as they are now, such as 7 where the host's own Secure Boot is judged.
    """
    if len(kek) != KEY_SIZE:
        raise ValueError(f"the host's key has {KEY_SIZE} bytes")
    values = tpm.read_pcrs("sha256", local_pcrs) if local_pcrs else {}
    local = {index: value.hex() for index, value in values.items()}
    public, private = tpm.seal(kek, seal_policy(key, channel, epoch, counter, local))
    return SealedKey(
        public=public,
        private=private,
        channel=channel,
        epoch=epoch,
        counter=counter,
        key=key,
        local_pcrs=tuple(sorted(local)),
    )


def unseal(tpm: SealingTpm, sealed: SealedKey, policies: Iterable[SignedPolicy]) -> bytes:
    """Open the host's key with the signed policy for the state that the host is in.

    Args:
        tpm: the host's.
        sealed: as it was stored.
        policies: of the active platform release.

    Raises:
        SealShut: no policy is for the key's epoch and the present PCRs, or the TPM did not open it with any.
        NotForThisTpm: sealed by another TPM.
    """
    policies = tuple(policies)
    state = read_state(tpm, policies)
    shut = SealShut(
        "the host's key was not opened",
        cause=f"no policy of the release is for epoch {sealed.epoch} and {told(state)}",
        remedy="reboot to measure all anew; `vmgate measure show` tells what differs",
        term="state",
    )
    for policy in state_of(policies, sealed.epoch, state):
        try:
            return tpm.unseal(sealed, policy)
        except SealShut as error:
            shut = error
    raise shut


def read_state(tpm: SealingTpm, policies: Iterable[SignedPolicy]) -> dict[int, bytes]:
    """The present values (SHA-256 bank) of the PCRs that policies are about."""
    return tpm.read_pcrs("sha256", sorted({index for policy in policies for index, _ in policy.pcrs}))


def told(state: Mapping[int, bytes]) -> str:
    """A state for people."""
    return ", ".join(f"PCR {index} = {value.hex()}" for index, value in state.items()) or "no PCR"


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
