# SPDX-License-Identifier: Apache-2.0
"""What Debian packages say that they need: relations and versions.

Source: Debian Policy 4.7, 7.1 (syntax of relationship fields), 7.5 (Provides) and 5.6.12 (Version); ``deb-version(7)``.
Pure. This module does not choose packages and does not know which ones exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

MAX_FIELD: Final = 64 * 1024
"""Characters of a relationship field."""

_NAME: Final = r"[a-z0-9][a-z0-9+.-]{1,127}"
_VERSION: Final = r"[A-Za-z0-9.+~:-]{1,128}"
_RELATION: Final = re.compile(rf"({_NAME})(?::[a-z0-9-]+)?(?:\s*\(\s*(<<|<=|=|>=|>>)\s*({_VERSION})\s*\))?")
_OPERATORS: Final[Mapping[str, Callable[[int], bool]]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One package asked for.

    Attributes:
        name: of it, real or virtual.
        operator: how its version must compare; empty if any will do.
        version: with which; empty with the operator.
    """

    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a package of this version will do; empty is the version of what is provided without one."""
        if not self.operator:
            return True
        return bool(version) and _OPERATORS[self.operator](compare_versions(version, self.version))

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def parse_relations(untrusted_field: str) -> tuple[tuple[Relation, ...], ...]:
    """Parse a field such as ``Depends``: all groups are needed, and of each group one alternative.

    Raises:
        ValueError: not in its form.
    """
    if len(untrusted_field) > MAX_FIELD:
        raise ValueError(f"has more than {MAX_FIELD} characters")
    groups = [group for group in untrusted_field.split(",") if group.strip()]
    return tuple(tuple(_relation(part.strip()) for part in group.split("|")) for group in groups)


def compare_versions(one: str, other: str) -> int:
    """Negative, zero or positive, as ``one`` is the earlier, an equal or the later version."""
    for left, right in zip(_parts(one), _parts(other), strict=True):
        order = _compare(left, right)
        if order:
            return order
    return 0


def _relation(untrusted_text: str) -> Relation:
    match = _RELATION.fullmatch(untrusted_text)
    if match is None:
        raise ValueError(f"has {untrusted_text[:100]!a}, which is no relation")
    return Relation(name=match[1], operator=match[2] or "", version=match[3] or "")


def _parts(version: str) -> tuple[str, str, str]:
    """Epoch, upstream version and revision. What is absent compares as 0."""
    epoch, colon, rest = version.partition(":")
    rest = rest if colon else version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch if colon else "0", upstream if dash else rest, revision if dash else "0")


def _compare(left: str, right: str) -> int:
    """Parts without digits by ``_rank``, numbers by their value, in turns."""
    while left or right:
        texts = [re.match(r"\D*", part) for part in (left, right)]
        one, other = (match[0] if match else "" for match in texts)
        for index in range(max(len(one), len(other))):
            order = _rank(one[index : index + 1]) - _rank(other[index : index + 1])
            if order:
                return order
        left, right = left[len(one) :], right[len(other) :]
        numbers = [re.match(r"\d*", part) for part in (left, right)]
        one, other = (match[0] if match else "" for match in numbers)
        order = int(one or 0) - int(other or 0)
        if order:
            return order
        left, right = left[len(one) :], right[len(other) :]
    return 0


def _rank(character: str) -> int:
    """A tilde comes before the end, the end before letters, letters before all else."""
    if character == "~":
        return -1
    if not character:
        return 0
    return ord(character) + (0 if character.isalpha() else 256)
