# SPDX-License-Identifier: Apache-2.0
"""The host's key between two starts, so that the TPM is not asked a score of commands for each of them.

It lies in one page that is locked in memory (never swapped) and left out of core dumps, and is overwritten when it is
forgotten. Where the page cannot be locked, nothing is kept. Python makes short-lived copies when a VM's key is
unwrapped; those are not overwritten. The key is given out only for the very terms on which the TPM opened it: the same
sealed object, the same signed policies, the same register values. This module asks no TPM and decides no start.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass

from documents.release import SignedPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """On what terms the TPM opened the host's key.

    Attributes:
        sealed: the sealed key's document, byte for byte.
        policies: of the release that was active.
        pcrs: (index, value) of each register that these policies and the sealed key are about, by index.
    """

    sealed: bytes
    policies: tuple[SignedPolicy, ...]
    pcrs: tuple[tuple[int, bytes], ...]


class KeyMemory:
    """Keeps one key. Its user holds a lock."""

    def __init__(self) -> None:
        self._page: mmap.mmap | None = None
        self._length = 0
        self._terms: KeyTerms | None = None

    def keep(self, key: bytes, terms: KeyTerms) -> None:
        """Keep a key that the TPM has just opened, instead of any other."""
        self.forget()
        self._page = self._page or _locked_page()
        if self._page is not None:
            self._page[: len(key)] = key
            self._length, self._terms = len(key), terms

    def recall(self, terms: KeyTerms) -> bytes | None:
        """The key, if it was opened on just these terms."""
        if self._page is None or self._terms != terms:
            return None
        return self._page[: self._length]

    def forget(self) -> None:
        """Overwrite what is kept."""
        self._terms = None
        if self._page is not None:
            self._page[:] = bytes(len(self._page))


def _locked_page() -> mmap.mmap | None:
    """One page that is neither swapped nor dumped; None where the system allows no such page."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc = ctypes.CDLL(None, use_errno=True)
    view = ctypes.c_char.from_buffer(page)
    if libc.mlock(ctypes.byref(view), ctypes.c_size_t(len(page))):
        return None
    page.madvise(mmap.MADV_DONTDUMP)
    page.madvise(mmap.MADV_DONTFORK)
    return page
