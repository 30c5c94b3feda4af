# SPDX-License-Identifier: Apache-2.0
"""One connection to one TPM: what is loaded is flushed again, whatever happens. TPMs have three slots.

This module gives no commands of its own use; the modules beside it do. It decides nothing and keeps no secret.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

import tpm2_pytss as tss

from measure import templates
from measure.responses import HANDLE, PCR_CHANGED, failed, foreign, missing, shut
from measure.structures import unmarshal


class Handles:
    """A connection, and the handles that it holds for the time of a command.

    Attributes:
        lock: re-entrant; hold it around what must not be interleaved with another thread's use of the TPM.
    """

    def __init__(self, esys: Any) -> None:
        self.lock = threading.RLock()
        self._esys = esys
        self._banks: tuple[str, ...] = ()
        self._says_software: bool | None = None

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

    def handles(self) -> int:
        """How many sessions and transient objects the TPM holds now."""
        with self.lock, translated("the TPM's handles were not counted"):
            total = 0
            for first in templates.LOADED_HANDLES:
                _, capability = self._esys.get_capability(tss.TPM2_CAP.HANDLES, first, 64)
                total += int(capability.data.handles.count)
            return total

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
        return self._primary(templates.SRK_HANDLE, templates.storage_public(), tss.ESYS_TR.OWNER)

    def _primary(self, handle: int, template: bytes, hierarchy: Any) -> bytes:
        """TPMT_PUBLIC of a persistent primary key, which is made where there is none."""
        with self.lock, translated("a key of the TPM was not made"):
            if not self._exists(handle):
                made = self._esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), public_area(template), hierarchy)[0]
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
def translated(what: str) -> Iterator[None]:
    """Turn the library's errors into ``TpmFailed``."""
    try:
        yield
    except tss.TSS2_Exception as error:
        raise failed(what, f"{error} ({int(error.rc):#x})") from error


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Turn the library's errors into ``SealShut`` or ``NotForThisTpm``."""
    try:
        yield
    except tss.TSS2_Exception as error:
        raise shut(what, int(error.rc), str(error)) from error


def again(what: str, attempt: Callable[[], bytes]) -> bytes:
    """Use a key; once more if a PCR was extended between the policy and its use."""
    with refused(what):
        try:
            return attempt()
        except tss.TSS2_Exception as error:
            if error.rc != PCR_CHANGED:
                raise
        return attempt()


def public_area(public: bytes) -> Any:
    """TPM2B_PUBLIC of a TPMT_PUBLIC."""
    return tss.TPM2B_PUBLIC(publicArea=unmarshal(tss.TPMT_PUBLIC, public))
