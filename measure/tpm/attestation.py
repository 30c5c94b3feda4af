# SPDX-License-Identifier: Apache-2.0
"""The attestation key: it quotes registers and certifies keys of the same TPM. This module verifies nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import tpm2_pytss as tss

from measure import templates
from measure.tpm.handles import Handles, translated


class Attestation(Handles):
    """States what only this TPM can state."""

    def create_ak(self) -> bytes:
        """The attestation key's TPMT_PUBLIC; the key, always the same in one TPM, is made where it is not there."""
        return self._primary(templates.AK_HANDLE, templates.attestation_public(), tss.ESYS_TR.ENDORSEMENT)

    ak_public = create_ak

    def quote(self, nonce: bytes, selection: Mapping[str, Collection[int]]) -> tuple[bytes, bytes]:
        """Quote PCRs by bank: TPMS_ATTEST and TPMT_SIGNATURE."""
        text = "+".join(f"{alg}:{','.join(map(str, sorted(selection[alg])))}" for alg in sorted(selection))
        self.create_ak()
        with self.lock, translated("the TPM gave no quote"), self._persistent(templates.AK_HANDLE) as ak:
            attest, signature = self._esys.quote(ak, text, nonce)
            return bytes(attest), signature.marshal()

    def certify(self, public: bytes, private: bytes, nonce: bytes) -> tuple[bytes, bytes]:
        """Let the attestation key state that this TPM holds a key: TPMS_ATTEST and TPMT_SIGNATURE."""
        self.create_ak()
        with (
            self.lock,
            translated("the key was not certified"),
            self._loaded(public, private) as key,
            self._persistent(templates.AK_HANDLE) as ak,
        ):
            attest, signature = self._esys.certify(key, ak, nonce, tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.NULL))
            return bytes(attest), signature.marshal()
