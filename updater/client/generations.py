# SPDX-License-Identifier: Apache-2.0
"""Generations on the disk: ``<n>/generation.json``, and ``current``, a link that is switched in one step.

Who reads ``current`` sees the old or the new generation. The journal is what decides which one is right.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from content import durable
from content.errors import Missing, storage
from documents.host_state import Generation
from updater.errors import StateInconsistent

CURRENT = "current"
DOCUMENT = "generation.json"


class Generations:
    """The folder of generations, made when the first is staged.

    Args:
        root: such as ``/var/lib/vmgate/generations``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def numbers(self) -> tuple[int, ...]:
        """All that are there, staged ones too, in ascending order.

        Raises:
            ContentError: the folder cannot be read.
        """
        with storage("the generations were not listed", self.root):
            if not self.root.is_dir():
                return ()
            return tuple(sorted(int(path.name) for path in self.root.iterdir() if path.name.isdecimal()))

    def load(self, number: int) -> Generation:
        """Read a generation.

        Raises:
            StateInconsistent: it is not there, or it is another one.
            DocumentError: it is malformed or of a newer vmgate.
            ContentError: it cannot be read.
        """
        path = self.root / str(number) / DOCUMENT
        try:
            generation = Generation.parse(durable.read_file(path, Generation.LIMIT))
        except Missing as error:
            raise _inconsistent(f"{path} is missing") from error
        if generation.number != number:
            raise _inconsistent(f"{path} says that it is number {generation.number}")
        return generation

    def current(self) -> int:
        """The number that ``current`` points to; 0 for none.

        Raises:
            StateInconsistent: it points elsewhere.
            ContentError: it cannot be read.
        """
        link = self.root / CURRENT
        with storage("the active generation is not known", link):
            if not link.is_symlink():
                return 0
            target = link.readlink().name
        if not target.isdecimal():
            raise _inconsistent(f"{link} points to {target!r}")
        return int(target)

    def stage(self, generation: Generation) -> None:
        """Write a generation. It is not active yet.

        Raises:
            ContentError: it failed.
        """
        folder = self.root / str(generation.number)
        durable.make_directory(folder)
        durable.write_file(folder / DOCUMENT, generation.encode())

    def switch(self, number: int) -> None:
        """Make a generation the active one; 0 for none.

        Raises:
            ContentError: it failed.
        """
        if number == 0:
            durable.remove(self.root / CURRENT)
        else:
            durable.replace_link(self.root / CURRENT, str(number))

    def keep(self, numbers: Collection[int]) -> None:
        """Remove all other generations, and what a cut left unfinished.

        Raises:
            ContentError: it failed; what was removed stays removed.
        """
        durable.sweep(self.root)
        for number in self.numbers():
            if number not in numbers:
                durable.remove_tree(self.root / str(number))


def _inconsistent(why: str) -> StateInconsistent:
    return StateInconsistent(
        "the update state is not usable", cause=why, remedy="restore the state folder, or set this host up anew"
    )
