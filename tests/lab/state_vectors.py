# SPDX-License-Identifier: Apache-2.0
"""Documents of a host's state as this vmgate writes them: ``PYTHONPATH=tests python -m lab.state_vectors FOLDER``.

What earlier ones wrote lies in ``tests/vectors/state``, made in the same way from their own strategies; the folder's
``README.md`` says from which commits. Each is the longest of sixty, so that most of its members are there. It is kept
from before the next change of a form, and never made again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from documents.document import Document
from lab.documents import DOCUMENTS

KINDS = frozenset(
    {
        "audit-head", "boot-state", "floor", "generation", "purpose-key", "recovery-key", "running-vm", "sealed-key",
        "signed-baseline", "state-form", "update-contact", "update-journal", "update-pause", "update-trial", "vm-key",
        "vm-tpm", "wave-place",
    }
)  # fmt: skip
"""What lies in a host's state folder."""

LONGEST = 6_000
"""Bytes; of what is always longer the shortest is taken."""


def name_of(kind: type[Document]) -> str:
    """The document's type without what all types begin with."""
    return kind.TYPE.removeprefix("vmgate.")


def write(folder: Path) -> None:
    """Write one of each."""
    for kind, strategy in DOCUMENTS.items():
        if name_of(kind) not in KINDS:
            continue
        made: list[bytes] = []

        @settings(max_examples=60, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(strategy)
        def collect(document: Document, made: list[bytes] = made) -> None:
            made.append(document.encode())

        collect()
        short = [data for data in made if len(data) <= LONGEST]
        (folder / f"{name_of(kind)}.json").write_bytes(max(short, key=len) if short else min(made, key=len))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
