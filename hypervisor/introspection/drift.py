# SPDX-License-Identifier: Apache-2.0
"""What changed of a kernel since it was first looked at in this run of its VM.

The first look is taken as it is: nobody signed it. A change is told, not judged: ftrace, jump labels, kprobes, BPF
and live patches change code too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from documents.canonical import Json
from hypervisor.introspection.memory import PAGE

REGIONS = ("text", "rodata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The first look.

    Attributes:
        run: which run of the VM.
        base: where the kernel was, hex; another one after the guest started anew by itself.
        pages: digests by region.
    """

    run: int
    base: str
    pages: dict[str, list[Json]]


def compare(found: dict[str, Json], before: Baseline | None, run: int) -> tuple[dict[str, Json], Baseline]:
    """Turn digests into what changed.

    Args:
        found: an answer of the view ``integrity``.
        before: the first look, if there was one.
        run: which run of the VM this is.

    Returns:
        The answer with ``baseline`` (``taken``, ``replaced`` after the guest started anew, or ``compared``), and for
        each region ``pages``, a count, and ``changed``, addresses in hex; and the baseline from now on.
    """
    regions = {name: cast("dict[str, Json]", found[name]) for name in REGIONS}
    now = Baseline(
        run=run,
        base=str(found["base"]),
        pages={name: cast("list[Json]", region["pages"]) for name, region in regions.items()},
    )
    if before is None or before.run != run:
        kept, word = now, "taken"
    elif before.base != now.base:
        kept, word = now, "replaced"
    else:
        kept, word = before, "compared"
    told = {name: _region(str(region["start"]), now.pages[name], kept.pages[name]) for name, region in regions.items()}
    return {**found, **told, "baseline": word}, kept


def _region(start: str, pages: list[Json], before: list[Json]) -> dict[str, Json]:
    """Pages that are there on one side only count as changed."""
    changed: list[Json] = [
        f"{int(start, 16) + number * PAGE:x}"
        for number in range(max(len(pages), len(before)))
        if pages[number : number + 1] != before[number : number + 1]
    ]
    return {"start": start, "pages": len(pages), "changed": changed}
