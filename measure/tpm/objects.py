# SPDX-License-Identifier: Apache-2.0
"""Keys and sealed secrets that only this TPM can use, under a signed policy or a PIN.

Source: TPM 2.0 Library Part 3; the order of the policy commands is that of ``measure.policy``. Each public method takes
the lock for all of its commands, since an extend of PCR 12 between a policy and its use makes the TPM refuse the use.

This module stores nothing; whoever calls it keeps what is public and private (encrypted by the TPM) of an object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import tpm2_pytss as tss

from documents.host_state import SealedKey
from documents.release import PolicyKey, SignedPolicy
from keys.tpm_policy import policy_ref
from measure import templates
from measure.policy import UNSEAL, approved_policy, counter_operand
from measure.structures import unmarshal
from measure.tpm.handles import Handles, again, public_area, refused, translated


class Objects(Handles):
    """Makes objects under the storage key, and uses them."""

    def create(self, public: bytes, secret: bytes = b"", pin: bytes = b"") -> tuple[bytes, bytes]:
        """Make an object of a TPMT_PUBLIC: TPM2B_PUBLIC and TPM2B_PRIVATE. Secret and PIN cross the bus encrypted."""
        self._storage_key()
        sensitive = tss.TPM2B_SENSITIVE_CREATE(sensitive=tss.TPMS_SENSITIVE_CREATE(userAuth=pin, data=secret))
        with (
            self.lock,
            translated("the TPM made no key"),
            self._session(tss.TPM2_SE.HMAC) as session,
            # Only now: the library gives one object a handle once, and the session has closed its own.
            self._persistent(templates.SRK_HANDLE) as srk,
        ):
            made = self._esys.create(srk, sensitive, public_area(public), session1=session)
            return made[1].marshal(), made[0].marshal()

    def seal(self, secret: bytes, auth_policy: bytes) -> tuple[bytes, bytes]:
        """Seal up to 128 bytes under a policy: TPM2B_PUBLIC and TPM2B_PRIVATE."""
        return self.create(templates.sealed_public(auth_policy), secret)

    def unseal(self, sealed: SealedKey, policy: SignedPolicy) -> bytes:
        """Open the host's sealed key under a signed policy.

        Args:
            sealed: as ``seal`` made it.
            policy: for the state that the host is in.

        Raises:
            SealShut: a term of the policy is not met.
            NotForThisTpm: sealed by another TPM, or before this one was cleared.
        """

        def use(session: Any, key: Any) -> bytes:
            self._esys.policy_command_code(session, UNSEAL)
            if sealed.local_pcrs:
                self._esys.policy_pcr(session, b"", f"sha256:{','.join(map(str, sealed.local_pcrs))}")
            with self._persistent(templates.COUNTER_INDEX) as index:
                self._esys.policy_nv(index, index, session, counter_operand(sealed.counter), tss.TPM2_EO.UNSIGNED_LE)
            return bytes(self._esys.unseal(key, session1=session))

        def attempt() -> bytes:
            return self._under_policy(sealed.public, sealed.private, sealed.key, sealed.channel, policy, use)

        return again("the host's key was not opened", attempt)

    def create_purpose_key(self, auth_policy: bytes) -> tuple[bytes, bytes]:
        """Make a signing key that only its policy can use: TPM2B_PUBLIC and TPM2B_PRIVATE."""
        return self.create(templates.purpose_public(auth_policy))

    def sign(
        self, public: bytes, private: bytes, message: bytes, *, key: PolicyKey, channel: str, policy: SignedPolicy
    ) -> bytes:
        """Sign a message with a purpose key under a signed policy: TPMT_SIGNATURE (ECDSA P-256, SHA-256).

        Raises:
            SealShut: a term of the policy is not met.
            NotForThisTpm: the key belongs to another TPM.
        """
        digest = hashlib.sha256(message).digest()

        def use(session: Any, signer: Any) -> bytes:
            return self._sign(signer, digest, session)

        return again("the TPM did not sign", lambda: self._under_policy(public, private, key, channel, policy, use))

    def check_key(self, public: bytes, private: bytes) -> None:
        """Require that this TPM made a key and was not cleared since; ``NotForThisTpm`` if not."""
        with self.lock, refused("the key was not used"), self._loaded(public, private):
            pass

    def sign_digest(self, public: bytes, private: bytes, pin: bytes, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with a key that has a PIN: TPMT_SIGNATURE. The PIN does not cross the bus.

        Raises:
            PinWrong: it is wrong, or the TPM takes none for a while.
            NotForThisTpm: the key belongs to another TPM.
        """
        with self.lock, refused("the key was not used"), self._loaded(public, private) as key:
            self._esys.tr_set_auth(key, pin)
            with self._session(tss.TPM2_SE.HMAC) as session:
                return self._sign(key, digest, session)

    def _under_policy(
        self,
        public: bytes,
        private: bytes,
        key: PolicyKey,
        channel: str,
        policy: SignedPolicy,
        use: Callable[[Any, Any], bytes],
    ) -> bytes:
        """Load an object, satisfy PolicyAuthorize in a salted session, and use it."""
        esys, ref, approved = self._esys, policy_ref(channel, policy.epoch), approved_policy(policy)
        with self.lock, self._loaded(public, private) as item, self._session(tss.TPM2_SE.POLICY) as session:
            verifier = esys.load_external(public_area(templates.policy_key_public(key)), hierarchy=tss.ESYS_TR.OWNER)
            with self._flushed(verifier):
                name = esys.tr_get_name(verifier)
                signature = unmarshal(tss.TPMT_SIGNATURE, templates.ecdsa_signature(policy.signature))
                ticket = esys.verify_signature(verifier, hashlib.sha256(approved + ref).digest(), signature)
            esys.policy_pcr(session, b"", "sha256:" + ",".join(str(index) for index, _ in policy.pcrs))
            esys.policy_authorize(session, approved, name, ticket, ref)
            return use(session, item)

    def _sign(self, key: Any, digest: bytes, session: Any) -> bytes:
        scheme = tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.NULL)
        signature: bytes = self._esys.sign(key, digest, scheme, session1=session).marshal()
        return signature
