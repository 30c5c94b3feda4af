# SPDX-License-Identifier: Apache-2.0
"""The form of a hardening rule. A rule is data: what it finds, it finds by XPath 1.0."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("deny", "grant", "warn")
"""deny: does not start. grant: only where an administrator granted it. warn: weaker than the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        id: ``HV`` and three digits; it never changes its meaning. Rows that differ only in their level share it.
        level: one of ``LEVELS``.
        where: XPath expressions; each element that one selects breaks the rule. ``re`` is EXSLT's regular expressions.
        why: the risk.
        fix: the safe form.
        sfr: requirements of NIAP's protection profile for virtualization that it serves.
    """

    id: str
    level: str
    where: tuple[str, ...]
    why: str
    fix: str
    sfr: str
