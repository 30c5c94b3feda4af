# SPDX-License-Identifier: Apache-2.0
"""Whether a set of Debian packages is whole: each thing that one needs is there, or left out by name and with a reason.

Pure. This module fetches nothing, and does not decide what an image is made of: the publisher does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from publisher.depends import Relation, parse_relations
from publisher.errors import VmmWrong

ARCHITECTURES: Final = ("amd64", "all")
"""The VMM runs PCs."""

LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "adduser": "makes users in maintainer scripts, which are not run",
        "iso-codes": "names of languages and countries for media players",
        "libcap2-bin": "gives capabilities to files in a maintainer script, which is not run",
    }
)
"""What a VMM of Debian's packages is said to need and does not: name and reason."""

MAX_SHOWN: Final = 10
"""Missing packages in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What counts of a package's control fields.

    Attributes:
        name, version, architecture: see Debian Policy.
        source: the source package that it was built from.
        needs: groups of alternatives, of ``Pre-Depends`` and ``Depends``.
        provides: other names that it answers to.
    """

    name: str
    version: str
    architecture: str
    source: str
    needs: tuple[tuple[Relation, ...], ...] = ()
    provides: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """A set of packages that is whole.

    Attributes:
        uses: name of each package, and of those that it needs; both sorted.
        left_out: (name, reason) of what is needed and was left out, sorted.
    """

    uses: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: tuple[tuple[str, str], ...]


def package(untrusted_fields: Mapping[str, str]) -> Package:
    """What counts of a package's control fields.

    Raises:
        ValueError: not in their form, or the package is for another architecture.
    """
    for name in ("Package", "Version", "Architecture"):
        if name not in untrusted_fields:
            raise ValueError(f"it does not tell its {name.lower()}")
    architecture = untrusted_fields["Architecture"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"it is for {architecture[:20]!a}, and not for {' or '.join(ARCHITECTURES)}")
    # The name and version of the package itself are a relation too, which says in what form they are.
    ((own,),) = parse_relations(f"{untrusted_fields['Package']} (= {untrusted_fields['Version']})")
    provided = parse_relations(untrusted_fields.get("Provides", ""))
    ((source,),) = parse_relations(untrusted_fields.get("Source", own.name).partition("(")[0])
    return Package(
        name=own.name,
        version=own.version,
        architecture=architecture,
        source=source.name,
        needs=tuple(
            group for name in ("Pre-Depends", "Depends") for group in parse_relations(untrusted_fields.get(name, ""))
        ),
        provides=tuple(relation for group in provided for relation in group),
    )


def close(packages: Sequence[Package], left_out: Mapping[str, str] = LEFT_OUT) -> Closure:
    """Require that a set is whole.

    Args:
        packages: each name once.
        left_out: name and reason of what may be missing. What is in the set is used nevertheless.

    Raises:
        VmmWrong: something is missing, or there in a version that will not do.
    """
    offers: dict[str, list[tuple[str, str]]] = {}
    for one in packages:
        for name, version in ((one.name, one.version), *((p.name, p.version) for p in one.provides)):
            offers.setdefault(name, []).append((one.name, version))
    missing: list[str] = []
    without: set[str] = set()
    uses: dict[str, tuple[str, ...]] = {}
    for one in packages:
        found: set[str] = set()
        for group in one.needs:
            taken = set(_takers(group, offers))
            absent = [relation.name for relation in group if relation.name in left_out]
            if not taken and not absent:
                missing.append(f"{one.name} needs {' or '.join(map(str, group))}")
            found |= taken
            without |= set() if taken else set(absent)
        uses[one.name] = tuple(sorted(found - {one.name}))
    if missing:
        raise _incomplete(missing)
    return Closure(
        uses=tuple(sorted(uses.items())),
        left_out=tuple(sorted((name, left_out[name]) for name in without)),
    )


def _takers(group: Iterable[Relation], offers: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    """The packages of the set that will do for one of the alternatives."""
    for relation in group:
        for name, version in offers.get(relation.name, ()):
            if relation.accepts(version):
                yield name


def _incomplete(missing: Sequence[str]) -> VmmWrong:
    shown = sorted(set(missing))
    rest = f", and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
    return VmmWrong(
        "the VMM image was not made",
        cause="; ".join(shown[:MAX_SHOWN]) + rest,
        remedy="add these packages, or leave them out by name and with a reason",
    )
