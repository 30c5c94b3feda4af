# SPDX-License-Identifier: Apache-2.0
"""The host's TPM: the only module that loads a TPM library.

Source: TPM 2.0 Library Part 3; the order of the policy commands is that of ``measure.policy``. Each public method takes
the lock for all of its commands, since an extend of PCR 12 between a policy and its use makes the TPM refuse the use.
What is loaded is flushed again, whatever happens: TPMs have three slots.

This module decides nothing: it does not judge logs, states or releases, and it keeps no secret.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

import tpm2_pytss as tss

from documents.host_state import SealedKey
from documents.release import PolicyKey, SignedPolicy
from measure import templates
from measure.pcr import ALGORITHMS, measure
from measure.policy import UNSEAL, approved_policy, counter_operand, nv_name, policy_ref
from measure.responses import HANDLE, PCR_CHANGED, bank_names, failed, foreign, missing, shut
from measure.structures import Clock, says_software, unmarshal


class Tpm:
    """One connection to one TPM. Use ``open``; close it, or use it as a context manager.

    Attributes:
        lock: re-entrant; hold it around what must not be interleaved with another thread's use of the TPM.
    """

    def __init__(self, esys: Any) -> None:
        self.lock = threading.RLock()
        self._esys = esys
        self._banks: tuple[str, ...] = ()

    @classmethod
    def open(cls, tcti: str) -> Self:
        """Connect, such as to ``device:/dev/tpmrm0``.

        Raises:
            TpmMissing: nothing answers there as a TPM 2.0 that was started.
        """
        try:
            with ExitStack() as undo:
                esys = undo.enter_context(tss.ESAPI(tcti))
                esys.read_clock()
                undo.pop_all()
                return cls(esys)
        except tss.TSS2_Exception as error:
            raise missing(tcti, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. May be called again."""
        with self.lock:
            self._esys.close()

    def software(self) -> bool:
        """Whether the TPM says that it is a program: assurance level L0."""
        with self.lock, _translated("the TPM was not identified"):
            # TPM2_PT_MANUFACTURER and VENDOR_STRING_1 to 4 (Part 2, 6.13). The parent stays referenced meanwhile.
            _, capability = self._esys.get_capability(tss.TPM2_CAP.TPM_PROPERTIES, 0x105, 5)
            found = capability.data.tpmProperties
            return says_software([int(found[i].value) for i in range(found.count)])

    def banks(self) -> tuple[str, ...]:
        """The active PCR banks, sorted by name.

        Raises:
            TpmFailed: one of them has an algorithm that vmgate cannot extend, so that it would stay open to forgery.
        """
        with self.lock, _translated("the PCR banks were not read"):
            if not self._banks:
                _, capability = self._esys.get_capability(tss.TPM2_CAP.PCRS, 0, 1)
                found = capability.data.assignedPCR
                active = {int(found[i].hash) for i in range(found.count) if any(bytes(found[i].pcrSelect))}
                self._banks = bank_names(active)
            return self._banks

    def clock(self) -> Clock:
        """The TPM's clock and how often it was started."""
        with self.lock, _translated("the TPM's clock was not read"):
            return Clock.of(self._esys.read_clock().clockInfo)

    def handles(self) -> int:
        """How many sessions and transient objects the TPM holds now."""
        with self.lock, _translated("the TPM's handles were not counted"):
            total = 0
            for first in templates.LOADED_HANDLES:
                _, capability = self._esys.get_capability(tss.TPM2_CAP.HANDLES, first, 64)
                total += int(capability.data.handles.count)
            return total

    def read_pcrs(self, alg: str, indexes: Iterable[int]) -> dict[int, bytes]:
        """The values of some PCRs of one bank.

        Raises:
            TpmFailed: the TPM has not all of them.
        """
        wanted = sorted(set(indexes))
        values: dict[int, bytes] = {}
        with self.lock, _translated("the PCRs were not read"):
            # One command gives at most eight values.
            for start in range(0, len(wanted), 8):
                part = wanted[start : start + 8]
                _, _, digests = self._esys.pcr_read(f"{alg}:{','.join(map(str, part))}")
                if digests.count != len(part):
                    raise failed("the PCRs were not read", f"the TPM has no such PCR in bank {alg}")
                values |= {index: bytes(digests[i]) for i, index in enumerate(part)}
        return values

    def extend(self, pcr: int, content: bytes) -> None:
        """Extend a PCR with the digest of ``content``, in all active banks at once.

        A bank that was left out could be extended to any value later, and quoted.
        """
        with self.lock:
            digests = b"".join(ALGORITHMS[a].to_bytes(2, "big") + measure(a, content) for a in self.banks())
            values = unmarshal(tss.TPML_DIGEST_VALUES, len(self.banks()).to_bytes(4, "big") + digests)
            with _translated(f"PCR {pcr} was not extended"):
                self._esys.pcr_extend(tss.ESYS_TR(pcr), values)

    def create_ak(self) -> bytes:
        """The attestation key's TPMT_PUBLIC; the key, always the same in one TPM, is made where it is not there."""
        return self._public(templates.AK_HANDLE, templates.attestation_public(), tss.ESYS_TR.ENDORSEMENT)

    ak_public = create_ak

    def quote(self, nonce: bytes, selection: Mapping[str, Collection[int]]) -> tuple[bytes, bytes]:
        """Quote PCRs by bank: TPMS_ATTEST and TPMT_SIGNATURE."""
        text = "+".join(f"{alg}:{','.join(map(str, sorted(selection[alg])))}" for alg in sorted(selection))
        self.create_ak()
        with self.lock, _translated("the TPM gave no quote"), self._persistent(templates.AK_HANDLE) as ak:
            attest, signature = self._esys.quote(ak, text, nonce)
            return bytes(attest), signature.marshal()

    def counter(self) -> int:
        """The host's NV counter, which is made where the TPM has none; a new one starts above all that ever were.

        Raises:
            TpmFailed: the index has another use.
        """
        with self.lock, _translated("the TPM's counter was not read"):
            fresh = templates.counter_public(written=False)
            if not self._exists(templates.COUNTER_INDEX):
                public = tss.TPM2B_NV_PUBLIC(nvPublic=unmarshal(tss.TPMS_NV_PUBLIC, fresh))
                index = self._esys.nv_define_space(None, public, auth_handle=tss.ESYS_TR.OWNER)
                self._esys.tr_close(index)
            with self._persistent(templates.COUNTER_INDEX) as index:
                public, name = self._esys.nv_read_public(index)
                if public.nvPublic.marshal() == fresh:
                    self._esys.nv_increment(index, auth_handle=tss.ESYS_TR.OWNER)
                elif bytes(name) != nv_name():
                    raise failed("the TPM's counter was not read", "its NV index has another use")
                return int.from_bytes(bytes(self._esys.nv_read(index, 8, auth_handle=tss.ESYS_TR.OWNER)), "big")

    def raise_counter(self, least: int) -> int:
        """Increment the counter until it is at least ``least``, and not once more: safe to repeat after a crash."""
        with self.lock:
            value = self.counter()
            while value < least:
                with (
                    _translated("the TPM's counter was not raised"),
                    self._persistent(templates.COUNTER_INDEX) as index,
                ):
                    self._esys.nv_increment(index, auth_handle=tss.ESYS_TR.OWNER)
                value = self.counter()
            return value

    def create(self, public: bytes, secret: bytes = b"", pin: bytes = b"") -> tuple[bytes, bytes]:
        """Make an object of a TPMT_PUBLIC: TPM2B_PUBLIC and TPM2B_PRIVATE. Secret and PIN cross the bus encrypted."""
        self._storage_key()
        sensitive = tss.TPM2B_SENSITIVE_CREATE(sensitive=tss.TPMS_SENSITIVE_CREATE(userAuth=pin, data=secret))
        with (
            self.lock,
            _translated("the TPM made no key"),
            self._session(tss.TPM2_SE.HMAC) as session,
            # Only now: the library gives one object a handle once, and the session has closed its own.
            self._persistent(templates.SRK_HANDLE) as srk,
        ):
            made = self._esys.create(srk, sensitive, _public(public), session1=session)
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

        return _again("the host's key was not opened", attempt)

    def create_purpose_key(self, auth_policy: bytes) -> tuple[bytes, bytes]:
        """Make a signing key that only its policy can use: TPM2B_PUBLIC and TPM2B_PRIVATE."""
        return self.create(templates.purpose_public(auth_policy))

    def certify(self, public: bytes, private: bytes, nonce: bytes) -> tuple[bytes, bytes]:
        """Let the attestation key state that this TPM holds a key: TPMS_ATTEST and TPMT_SIGNATURE."""
        self.create_ak()
        with (
            self.lock,
            _translated("the key was not certified"),
            self._loaded(public, private) as key,
            self._persistent(templates.AK_HANDLE) as ak,
        ):
            attest, signature = self._esys.certify(key, ak, nonce, tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.NULL))
            return bytes(attest), signature.marshal()

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

        return _again("the TPM did not sign", lambda: self._under_policy(public, private, key, channel, policy, use))

    def check_key(self, public: bytes, private: bytes) -> None:
        """Require that this TPM made a key and was not cleared since; ``NotForThisTpm`` if not."""
        with self.lock, _refused("the key was not used"), self._loaded(public, private):
            pass

    def sign_digest(self, public: bytes, private: bytes, pin: bytes, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with a key that has a PIN: TPMT_SIGNATURE. The PIN does not cross the bus.

        Raises:
            PinWrong: it is wrong, or the TPM takes none for a while.
            NotForThisTpm: the key belongs to another TPM.
        """
        with self.lock, _refused("the key was not used"), self._loaded(public, private) as key:
            self._esys.tr_set_auth(key, pin)
            with self._session(tss.TPM2_SE.HMAC) as session:
                return self._sign(key, digest, session)

    # Below here: handles and sessions

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
            verifier = esys.load_external(_public(templates.policy_key_public(key)), hierarchy=tss.ESYS_TR.OWNER)
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

    @contextmanager
    def _loaded(self, public: bytes, private: bytes) -> Iterator[Any]:
        self._storage_key()
        try:
            inside = unmarshal(tss.TPM2B_PRIVATE, private), unmarshal(tss.TPM2B_PUBLIC, public)
        except (tss.TSS2_Exception, ValueError) as error:
            raise foreign("the key was not loaded", "it is not in the form of a TPM") from error
        with self._persistent(templates.SRK_HANDLE) as srk:
            loaded = self._esys.load(srk, *inside)
        with self._flushed(loaded):
            yield loaded

    @contextmanager
    def _session(self, kind: Any) -> Iterator[Any]:
        """A session whose parameters are encrypted with a key that only this TPM's storage key can derive."""
        symmetric = tss.TPMT_SYM_DEF.parse("aes128cfb")
        with self._persistent(templates.SRK_HANDLE) as srk:
            session = self._esys.start_auth_session(srk, tss.ESYS_TR.NONE, kind, symmetric, tss.TPM2_ALG.SHA256)
        with self._flushed(session):
            attributes = tss.TPMA_SESSION.DECRYPT | tss.TPMA_SESSION.ENCRYPT | tss.TPMA_SESSION.CONTINUESESSION
            self._esys.trsess_set_attributes(session, attributes)
            yield session

    def _storage_key(self) -> bytes:
        return self._public(templates.SRK_HANDLE, templates.storage_public(), tss.ESYS_TR.OWNER)

    def _public(self, handle: int, template: bytes, hierarchy: Any) -> bytes:
        """TPMT_PUBLIC of a persistent primary key, which is made where there is none."""
        with self.lock, _translated("a key of the TPM was not made"):
            if not self._exists(handle):
                made = self._esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), _public(template), hierarchy)[0]
                with self._flushed(made):
                    self._esys.tr_close(self._esys.evict_control(tss.ESYS_TR.OWNER, made, handle))
            with self._persistent(handle) as key:
                public: bytes = self._esys.read_public(key)[0].publicArea.marshal()
            if not templates.same_kind(public, template):
                raise failed("a key of the TPM was not used", f"another kind of key is at {handle:#x}")
            return public

    def _exists(self, handle: int) -> bool:
        try:
            with self._persistent(handle):
                return True
        except tss.TSS2_Exception as error:
            if error.rc != HANDLE:
                raise
            return False

    @contextmanager
    def _persistent(self, handle: int) -> Iterator[Any]:
        resource = self._esys.tr_from_tpmpublic(handle)
        try:
            yield resource
        finally:
            with suppress(tss.TSS2_Exception):
                self._esys.tr_close(resource)

    @contextmanager
    def _flushed(self, handle: Any) -> Iterator[Any]:
        try:
            yield handle
        finally:
            # What is gone already needs no flush; a broken connection shows in the error that is on its way.
            with suppress(tss.TSS2_Exception):
                self._esys.flush_context(handle)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except tss.TSS2_Exception as error:
        raise failed(what, f"{error} ({int(error.rc):#x})") from error


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except tss.TSS2_Exception as error:
        raise shut(what, int(error.rc), str(error)) from error


def _again(what: str, attempt: Callable[[], bytes]) -> bytes:
    """Use a key; once more if a PCR was extended between the policy and its use."""
    with _refused(what):
        try:
            return attempt()
        except tss.TSS2_Exception as error:
            if error.rc != PCR_CHANGED:
                raise
        return attempt()


def _public(public: bytes) -> Any:
    return tss.TPM2B_PUBLIC(publicArea=unmarshal(tss.TPMT_PUBLIC, public))
