# SPDX-License-Identifier: Apache-2.0
"""Who this TPM is: its endorsement keys, their certificates in its memory, and the opening of a credential.

Source: TCG EK Credential Profile 2.6, annex B (indexes, templates, policy); TPM 2.0 Library Part 3, clause 12.5
(TPM2_ActivateCredential).

An endorsement key is made from its template for the time of one command and flushed: the handles at which others keep
one are not ours. This module reads no certificate and verifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tpm2_pytss as tss

from documents.identity import CERTIFICATE_LIMIT, CHAIN_LIMIT, Challenge
from measure import templates
from measure.endorsement import CERTIFICATE_INDEX, CHAIN_INDEXES, parse_ek, template
from measure.responses import failed, not_ours
from measure.structures import unmarshal
from measure.tpm.attestation import Attestation
from measure.tpm.handles import public_area, translated

NV_CHUNK = 512
"""Bytes of NV memory that are read at once; each TPM can give as many."""

_OF_PARAMETER = 0xC0
"""Bits of a response code that is about a parameter (Part 2, 6.6.2): here the check value or the seed is not right."""

_FAILURE = 0x101
"""What libtpms gives for the seed of another RSA key; it lives on."""


class Identity(Attestation):
    """Says which TPM this is, and proves it."""

    def ek_public(self, kind: str) -> bytes:
        """TPMT_PUBLIC of its endorsement key of a kind, ``rsa`` or ``ecc``, which is always the same.

        Raises:
            TpmFailed: the TPM makes none, such as for want of the algorithm.
        """
        with self.lock, translated(f"the TPM's {kind} endorsement key was not made"), self._endorsement(kind) as key:
            public: bytes = self._esys.read_public(key)[0].publicArea.marshal()
            return public

    def ek_certificate(self, kind: str) -> bytes:
        """The certificate of an endorsement key as it lies in the TPM's memory; empty where there is none.

        Raises:
            TpmFailed: it cannot be read, or is too large for one.
        """
        with self.lock, translated("the TPM's certificate was not read"):
            index = CERTIFICATE_INDEX[kind]
            return self._nv_read(index, CERTIFICATE_LIMIT) if self._exists(index) else b""

    def ek_chain(self) -> bytes:
        """The certificates of issuers that the vendor left in the TPM, one after the other; empty for none.

        Raises:
            TpmFailed: they cannot be read, or are too large.
        """
        with self.lock, translated("the certificates of the TPM's issuers were not read"):
            found = b""
            _, capability = self._esys.get_capability(tss.TPM2_CAP.HANDLES, CHAIN_INDEXES.start, len(CHAIN_INDEXES))
            handles = capability.data.handles
            for index in sorted(int(handles.handle[at]) for at in range(handles.count)):
                if index in CHAIN_INDEXES:
                    found += self._nv_read(index, CHAIN_LIMIT - len(found))
            return found

    def activate(self, challenge: Challenge) -> bytes:
        """Open a challenge's secret.

        Raises:
            ChallengeRefused: it was made for another TPM or another attestation key, or it was changed.
            IdentityRefused: its endorsement key is of no kind that vmgate knows.
        """
        kind = parse_ek(challenge.ek).kind
        if challenge.ak_name != templates.public_name(self.create_ak()):
            raise not_ours("it is for another attestation key: this TPM's changed, or it is another host's")
        try:
            wrapped = unmarshal(tss.TPM2B_ID_OBJECT, challenge.credential)
            seed = unmarshal(tss.TPM2B_ENCRYPTED_SECRET, challenge.seed)
        except (tss.TSS2_Exception, ValueError) as error:
            raise not_ours("it is not in the form of a TPM") from error
        with (
            self.lock,
            translated("the challenge was not opened"),
            self._endorsement(kind) as ek,
            self._persistent(templates.AK_HANDLE) as ak,
        ):
            if challenge.ek != self._esys.read_public(ek)[0].publicArea.marshal():
                raise not_ours("it is for the endorsement key of another TPM")
            try:
                with self._endorsement_policy() as session:
                    return bytes(
                        self._esys.activate_credential(
                            ak, ek, wrapped, seed, session1=tss.ESYS_TR.PASSWORD, session2=session
                        )
                    )
            except tss.TSS2_Exception as error:
                if error.rc == _FAILURE or int(error.rc) & _OF_PARAMETER == _OF_PARAMETER:
                    raise not_ours("its secret does not open with this TPM's keys") from error
                raise

    @contextmanager
    def _endorsement(self, kind: str) -> Iterator[Any]:
        public = public_area(template(kind))
        made = self._esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), public, tss.ESYS_TR.ENDORSEMENT)[0]
        with self._flushed(made):
            yield made

    @contextmanager
    def _endorsement_policy(self) -> Iterator[Any]:
        """A session in which the endorsement hierarchy's authorisation was given; it serves one command."""
        none, symmetric = tss.ESYS_TR.NONE, tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL)
        session = self._esys.start_auth_session(none, none, tss.TPM2_SE.POLICY, symmetric, tss.TPM2_ALG.SHA256)
        with self._flushed(session):
            self._esys.policy_secret(tss.ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
            yield session

    def _nv_read(self, index: int, limit: int) -> bytes:
        with self._persistent(index) as resource:
            size = int(self._esys.nv_read_public(resource)[0].nvPublic.dataSize)
            if size > limit:
                raise failed("the TPM's memory was not read", f"{size} bytes are at {index:#x} and {limit} is the most")
            data = b""
            while len(data) < size:
                # By the index's own authorisation, which is empty for certificates: the owner's is not needed.
                part = self._esys.nv_read(resource, min(NV_CHUNK, size - len(data)), len(data), auth_handle=resource)
                data += bytes(part)
            return data
