# SPDX-License-Identifier: Apache-2.0
"""The host's key-encryption key and the VM keys under it.

One 32-byte key is sealed by the TPM; every VM's key is wrapped by it in software, so that a new security epoch re-seals
one thing. It may be sealed more than once, for values of PCR 7 that are to come. This module stores nothing, decides
nothing (``measure.reseal`` does) and logs nothing; after ``shut_older`` the caller logs an event in PCR 12, which
closes sessions that were satisfied before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from documents.canonical import encode
from documents.host_state import SealedKey, WrappedVmKey
from documents.release import PolicyKey, SignedPolicy
from documents.sealed import MAX_AHEAD, SealedAhead, SealedFloor
from keys.tpm_policy import measured
from measure.errors import KeyRefused, NotForThisTpm, SealEmpty, SealShut
from measure.pcr import VMM_PCR
from measure.policy import seal_policy, state_of

KEY_SIZE = 32
"""Bytes of the host's key and of a VM's."""

Pcrs = tuple[tuple[int, str], ...]
"""Values (SHA-256, hexadecimal) of PCRs, in ascending order of index."""

WAY_OUT = (
    "with a recovery key `vmgate recovery use FILE`; without one what the VMs' own TPMs held is lost, and to go on "
    "move host-key.json and audit-key.json out of /var/lib/vmgate/tpm and restart the agent"
)
"""For a key that this TPM will never open again. Nothing is removed by itself: the TPM of before may come back."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which terms the host's key is sealed.

    Attributes:
        channel: the platform channel.
        epoch: the security epoch whose policies open it.
        key: the policy key whose policies open it.
        counter: highest value of the host's counter at which it opens. A key that is to shut older ones out gets one
            more than the present value, is made durable, and only then ``shut_older`` is called.
        local_pcrs: further PCRs that it needs as they are now, such as 7 where the host's own Secure Boot is judged.
        floor: sealed with it by its digest; None for none.
    """

    channel: str
    epoch: int
    key: PolicyKey
    counter: int
    local_pcrs: tuple[int, ...] = ()
    floor: SealedFloor | None = None


def create(tpm: SealingTpm, terms: Terms, random: Random) -> tuple[bytes, SealedKey]:
    """Make a host's key and seal it. See ``seal``."""
    kek = random(KEY_SIZE)
    return kek, seal(tpm, kek, terms)


def seal(tpm: SealingTpm, kek: bytes, terms: Terms) -> SealedKey:
    """Seal the host's key (again).

    Args:
        tpm: the host's.
        kek: 32 bytes.
        terms: under which it opens.

    Raises:
        SealEmpty: nothing was measured into the VMM PCR or a local one, so that the key would say nothing of a state.
    """
    if len(kek) != KEY_SIZE:
        raise ValueError(f"the host's key has {KEY_SIZE} bytes")
    values = tpm.read_pcrs("sha256", {VMM_PCR, *terms.local_pcrs})
    present = tuple((index, values[index].hex()) for index in sorted(terms.local_pcrs))
    _require_measured((VMM_PCR, values[VMM_PCR].hex()), *present)
    policy = seal_policy(terms.key, terms.channel, terms.epoch, terms.counter, dict(present))
    public, private = tpm.seal(kek + _floor_digest(terms.floor), policy)
    return SealedKey(
        public=public,
        private=private,
        channel=terms.channel,
        epoch=terms.epoch,
        counter=terms.counter,
        key=terms.key,
        local_pcrs=tuple(index for index, _ in present),
        floor=terms.floor,
    )


def seal_ahead(tpm: SealingTpm, kek: bytes, sealed: SealedKey, states: Iterable[Pcrs]) -> SealedKey:
    """Seal the host's key once more for each of these values of its local PCRs; what it has stays as it is.

    Raises:
        SealEmpty: one of the values is of an empty PCR.
    """
    known = {item.pcrs for item in sealed.ahead}
    added = []
    for pcrs in dict.fromkeys(states):
        if tuple(index for index, _ in pcrs) != sealed.local_pcrs or not pcrs:
            raise ValueError("these are not the local PCRs of the key")
        _require_measured(*pcrs)
        if pcrs not in known:
            policy = seal_policy(sealed.key, sealed.channel, sealed.epoch, sealed.counter, dict(pcrs))
            public, private = tpm.seal(kek + _floor_digest(sealed.floor), policy)
            added.append(SealedAhead(public=public, private=private, pcrs=pcrs))
    return replace(sealed, ahead=(*sealed.ahead, *added)[-MAX_AHEAD:])


def unseal(tpm: SealingTpm, sealed: SealedKey, policies: Iterable[SignedPolicy]) -> bytes:
    """Open the host's key with the signed policy for the state that the host is in.

    Args:
        tpm: the host's.
        sealed: as it was stored.
        policies: of the active platform release.

    Raises:
        SealShut: no policy is for the key's epoch and the present PCRs, or the TPM did not open it with any.
        NotForThisTpm: sealed by another TPM.
        KeyRefused: the floor beside it is not the one that was sealed with it.
    """
    try:
        return _opened(tpm, sealed, tuple(policies))
    except NotForThisTpm as error:
        raise NotForThisTpm("the host's key was not opened", cause=error.cause, remedy=WAY_OUT) from error
    except SealShut as error:
        if error.term != "counter":
            raise
        remedy = f"put back the newest host-key.json of this host; if that is it: {WAY_OUT}"
        raise SealShut("the host's key was not opened", cause=error.cause, remedy=remedy, term=error.term) from error


def _opened(tpm: SealingTpm, sealed: SealedKey, policies: tuple[SignedPolicy, ...]) -> bytes:
    state = read_state(tpm, policies)
    shut = SealShut(
        "the host's key was not opened",
        cause=f"no policy of the release is for epoch {sealed.epoch} and {told(state)}",
        remedy="reboot to measure all anew; `vmgate measure show` tells what differs",
        term="state",
    )
    fitting = state_of(policies, sealed.epoch, state)
    for blob in _blobs(tpm, sealed) if fitting else ():
        for policy in fitting:
            try:
                return _checked(tpm.unseal(blob, policy), sealed.floor)
            except SealShut as error:
                shut = error
    raise shut


def arrived(tpm: SealingTpm, sealed: SealedKey) -> bool:
    """Whether the host is in a state ahead of which its key was sealed."""
    return len(_blobs(tpm, sealed)) > 1


def _blobs(tpm: SealingTpm, sealed: SealedKey) -> tuple[SealedKey, ...]:
    """The key as sealed for the present local PCRs first: perhaps ahead of them; and as it was sealed then."""
    if not sealed.ahead:
        return (sealed,)
    present = {index: value.hex() for index, value in tpm.read_pcrs("sha256", sealed.local_pcrs).items()}
    ahead = (item for item in sealed.ahead if dict(item.pcrs) == present)
    return (*(replace(sealed, public=item.public, private=item.private) for item in ahead), sealed)


def _require_measured(*pcrs: tuple[int, str]) -> None:
    for index, value in pcrs:
        if not measured(bytes.fromhex(value)):
            raise SealEmpty(
                "the host's key was not sealed",
                cause=f"PCR {index} is empty: nothing was measured into it in this boot",
                remedy="see that the firmware measures (TPM switched on, SHA-256 bank), and reboot",
            )


def _floor_digest(floor: SealedFloor | None) -> bytes:
    return b"" if floor is None else hashlib.sha256(encode(floor.members())).digest()


def _checked(secret: bytes, floor: SealedFloor | None) -> bytes:
    if secret[KEY_SIZE:] != _floor_digest(floor):
        raise KeyRefused(
            "the host's key was not used",
            cause="the floor beside it is not the one that was sealed with it",
            remedy="put back host-key.json as vmgate wrote it; somebody changed it",
        )
    return secret[:KEY_SIZE]


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


def shut_all(tpm: SealingTpm, sealed: SealedKey) -> int:
    """Make a key, and every older one, stay shut for good, whoever has copies of it. Safe to repeat after a crash.

    Returns:
        The counter's value.
    """
    return tpm.raise_counter(sealed.counter + 1)


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
