# SPDX-License-Identifier: Apache-2.0
"""A power cut at a chosen instant of a re-seal: before and after each change that a disk or a TPM keeps.

What a disk may lose of effects that were not synchronised is ``lab.crash``'s; here each rename and removal is one
instant, as ``content.durable`` makes it, and so is each move of the TPM's counter and each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from content import effects
from lab.sealed_host import SealedHost
from measure.tpm import Tpm


class PowerCut(Exception):
    """The power is gone."""


class Fuse:
    """Burns through before the given instant; counts them.

    Attributes:
        passed: names of the instants that were passed.
        cut: the instant before which the power went; empty where it did not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.passed: list[str] = []
        self.cut = ""

    def pass_(self, name: str) -> None:
        """An instant has come."""
        if len(self.passed) == self._limit:
            # The first counts: what would clear up behind it has no power either.
            self.cut = self.cut or name
            raise PowerCut(name)
        self.passed.append(name)


@contextmanager
def burning(host: SealedHost, limit: int) -> Iterator[Fuse]:
    """Cut the power before the instant of this number. Whatever the block does after that does not happen."""
    fuse = Fuse(limit)
    rename, unlink, raise_counter, note = effects.rename, effects.unlink, Tpm.raise_counter, host._note

    def renamed(source: Path, target: Path) -> None:
        fuse.pass_(f"{target.name} is written")
        rename(source, target)

    def removed(path: Path) -> None:
        fuse.pass_(f"{path.name} is removed")
        unlink(path)

    def raised(tpm: Tpm, least: int) -> int:
        fuse.pass_("the counter moves")
        return raise_counter(tpm, least)

    def noted() -> None:
        fuse.pass_("the event is extended")
        note()

    with (
        patch.object(effects, "rename", renamed),
        patch.object(effects, "unlink", removed),
        patch.object(Tpm, "raise_counter", raised),
        patch.object(host, "_note", noted),
    ):
        try:
            yield fuse
        except PowerCut:
            return


def cuts(make: Callable[[], SealedHost], operation: Callable[[SealedHost], None]) -> Iterator[tuple[SealedHost, str]]:
    """A host after a cut at each instant of an operation, with the instant's name; last one after its end (empty).

    Args:
        make: a host that is ready for the operation; each time a new one.
        operation: what is cut.
    """
    limit, cut = 0, "first"
    while cut:
        host = make()
        try:
            with burning(host, limit) as fuse:
                operation(host)
            cut = fuse.cut
            yield host, cut
        finally:
            host.off()
        limit += 1
