# SPDX-License-Identifier: Apache-2.0
"""The trial of a generation on the disk: what it is judged by, and how often it was begun and never ended.

Written before the switch, so that whoever finds a switched generation after a cut knows what it has to show. One whose
trial was begun too often, since each time the agent or the machine ended meanwhile, is not worth another. The file is
one of its own: the journal stays as every vmgate reads it. This module judges nothing and has no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from content import durable
from content.errors import Missing
from documents.trial import MOST_BEGUN, UpdateTrial

MOST_TRIES = 3
"""So many beginnings a generation has."""


class Trials:
    """The trial of one host.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def announce(self, generation: int, worked: Iterable[str]) -> None:
        """A generation is about to be switched to.

        Args:
            generation: its number.
            worked: see ``UpdateTrial``.

        Raises:
            ContentError: it could not be written, and nothing may be switched.
        """
        durable.write_file(
            self._path, UpdateTrial(generation=generation, begun=0, worked=tuple(sorted(set(worked)))).encode()
        )

    def of(self, generation: int) -> UpdateTrial:
        """The trial of a generation; one that an older vmgate switched to has nothing to show.

        Raises:
            DocumentError: malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        try:
            trial = UpdateTrial.parse(durable.read_file(self._path, UpdateTrial.LIMIT))
        except Missing:
            trial = UpdateTrial(generation=generation, begun=0, worked=())
        return trial if trial.generation == generation else UpdateTrial(generation=generation, begun=0, worked=())

    def begin(self, generation: int) -> UpdateTrial:
        """Begin the trial, or begin it again: counted before anything of it runs.

        Raises:
            DocumentError: malformed or of a newer vmgate.
            ContentError: it could not be read or written.
        """
        trial = self.of(generation)
        begun = replace(trial, begun=min(trial.begun + 1, MOST_BEGUN))
        durable.write_file(self._path, begun.encode())
        return begun

    def end(self) -> None:
        """Forget it: the generation was confirmed, or left.

        Raises:
            ContentError: it could not be removed.
        """
        durable.remove(self._path)
