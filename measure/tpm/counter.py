# SPDX-License-Identifier: Apache-2.0
"""The host's one NV counter, which only goes up. This module does not know what it counts."""

from __future__ import annotations

import tpm2_pytss as tss

from measure import templates
from measure.policy import nv_name
from measure.responses import failed
from measure.structures import unmarshal
from measure.tpm.handles import Handles, translated


class Counter(Handles):
    """Makes, reads, raises and removes the counter."""

    def counter(self) -> int:
        """The host's NV counter, which is made where the TPM has none; a new one starts above all that ever were.

        Raises:
            TpmFailed: the index has another use.
        """
        with self.lock, translated("the TPM's counter was not read"):
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
                    translated("the TPM's counter was not raised"),
                    self._persistent(templates.COUNTER_INDEX) as index,
                ):
                    self._esys.nv_increment(index, auth_handle=tss.ESYS_TR.OWNER)
                value = self.counter()
            return value

    def hand_back(self) -> None:
        """Remove the counter and the attestation key's handle: what is there in the TPM of vmgate's alone.

        Nothing that was sealed to the counter opens any more, and a new one starts above it. The attestation key is
        always the same in one TPM, and so is made again where somebody wants it. May be repeated.
        """
        with self.lock, translated("what vmgate has in the TPM was not removed"):
            if self._exists(templates.COUNTER_INDEX):
                with self._persistent(templates.COUNTER_INDEX) as index:
                    self._esys.nv_undefine_space(index, auth_handle=tss.ESYS_TR.OWNER)
            if self._exists(templates.AK_HANDLE):
                with self._persistent(templates.AK_HANDLE) as ak:
                    self._esys.evict_control(tss.ESYS_TR.OWNER, ak, templates.AK_HANDLE)
