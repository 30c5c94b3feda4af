# SPDX-License-Identifier: Apache-2.0
"""TPM policy digests, computed without a TPM.

Source: TPM 2.0 Library Part 3, clause 23 (TPM2_PolicyPCR, PolicyNV, PolicyCommandCode, PolicyAuthorize); Part 1,
clause 16 (names). H is SHA-256, integers are big-endian. ``TPM2_PolicyAuthorize`` comes first in every policy, since it
discards what stands before it. The term that a publisher signs is in ``keys.tpm_policy``. This module signs nothing
and opens nothing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from documents.release import PolicyKey, SignedPolicy
from keys.tpm_policy import EMPTY, pcr_policy, policy_ref
from measure.errors import PolicyRefused
from measure.templates import counter_public, policy_key_public, public_name

UNSEAL = 0x0000015E
SIGN = 0x0000015D
CC_POLICY_NV = 0x00000149
CC_POLICY_AUTHORIZE = 0x0000016A
CC_POLICY_COMMAND_CODE = 0x0000016C
UNSIGNED_LE = 0x0009

PURPOSE_EPOCH = 0
"""Stands in a policyRef for keys that cannot be re-sealed (purpose keys): no security epoch is 0."""


def authorize_policy(key: PolicyKey, ref: bytes) -> bytes:
    """The policy after ``TPM2_PolicyAuthorize``, whatever stood before it."""
    return hashlib.sha256(_extend(EMPTY, CC_POLICY_AUTHORIZE, key_name(key)) + ref).digest()


def command_code_policy(previous: bytes, code: int) -> bytes:
    """The policy after ``TPM2_PolicyCommandCode``."""
    return _extend(previous, CC_POLICY_COMMAND_CODE, struct.pack(">I", code))


def counter_policy(previous: bytes, counter: int) -> bytes:
    """The policy after ``TPM2_PolicyNV``: the host's counter is at most ``counter``."""
    arguments = hashlib.sha256(counter_operand(counter) + struct.pack(">HH", 0, UNSIGNED_LE)).digest()
    return _extend(previous, CC_POLICY_NV, arguments + nv_name())


def counter_operand(counter: int) -> bytes:
    """The counter as ``TPM2_PolicyNV`` compares it."""
    return struct.pack(">Q", counter)


def nv_name() -> bytes:
    """The name of the host's NV counter once it was incremented."""
    return public_name(counter_public(written=True))


def seal_policy(
    key: PolicyKey, channel: str, epoch: int, counter: int, local_pcrs: Mapping[int, str] | None = None
) -> bytes:
    """The authPolicy of the host's sealed key.

    Args:
        key: the policy key whose signatures open it.
        channel: the platform channel.
        epoch: the security epoch.
        counter: highest value of the host's counter at which it opens.
        local_pcrs: further PCRs that only this host can name, such as 7 where Secure Boot is on.
    """
    policy = command_code_policy(authorize_policy(key, policy_ref(channel, epoch)), UNSEAL)
    if local_pcrs:
        policy = pcr_policy(local_pcrs, policy)
    return counter_policy(policy, counter)


def key_name(key: PolicyKey) -> bytes:
    """The name of a policy key."""
    return public_name(policy_key_public(key))


def approved_policy(policy: SignedPolicy) -> bytes:
    """The digest that a signed policy approves."""
    return pcr_policy(dict(policy.pcrs))


def verify_signed_policy(policy: SignedPolicy, keys: Iterable[PolicyKey], channel: str) -> PolicyKey:
    """Require that one of the keys signed the policy for its channel and epoch.

    Returns:
        The key that signed it.

    Raises:
        PolicyRefused: none of them did.
    """
    message = approved_policy(policy) + policy_ref(channel, policy.epoch)
    signature = encode_dss_signature(
        int.from_bytes(policy.signature[:32], "big"), int.from_bytes(policy.signature[32:], "big")
    )
    for key in keys:
        try:
            point = ec.EllipticCurvePublicNumbers(int(key.x, 16), int(key.y, 16), ec.SECP256R1()).public_key()
            point.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            continue
        return key
    raise PolicyRefused(
        f"a TPM policy of channel {channel} was refused",
        cause=f"no policy key of the release signed its {policy.entry} policy for epoch {policy.epoch}",
        remedy="get the release again from its publisher",
    )


def signed_by(policies: Iterable[SignedPolicy], key: PolicyKey, channel: str) -> Iterator[SignedPolicy]:
    """Those policies that a key has signed for a channel: while a policy key is replaced, a release has two of each."""
    for policy in policies:
        try:
            verify_signed_policy(policy, (key,), channel)
        except PolicyRefused:
            continue
        yield policy


def state_of(policies: Iterable[SignedPolicy], epoch: int, pcrs: Mapping[int, bytes]) -> tuple[SignedPolicy, ...]:
    """The policies that are for a state: for this epoch, and with all of their PCRs at these values.

    Args:
        policies: to choose from; their signatures are not looked at.
        epoch: security epoch, or ``PURPOSE_EPOCH``.
        pcrs: values of the SHA-256 bank by index. A policy about another PCR is for no known state.
    """
    state = {index: value.hex() for index, value in pcrs.items()}
    return tuple(
        policy
        for policy in policies
        if policy.epoch == epoch and policy.pcrs and all(state.get(index) == value for index, value in policy.pcrs)
    )


def _extend(previous: bytes, code: int, arguments: bytes) -> bytes:
    return hashlib.sha256(previous + struct.pack(">I", code) + arguments).digest()
