# SPDX-License-Identifier: Apache-2.0
"""Lint findings as SARIF 2.1.0, which code hosts and editors show beside the line. Pure.

Source: OASIS SARIF 2.1.0, clauses 3.13 (log), 3.14 (run), 3.27 (result), 3.49 (rule). This module finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from hypervisor.lint import LintFinding
from hypervisor.rules.rule import Rule

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Final = {"deny": "error", "grant": "warning", "warn": "note"}


def sarif(results: Iterable[tuple[str, LintFinding]], rules: Iterable[Rule], version: str) -> dict[str, Any]:
    """One run.

    Args:
        results: each finding with the URI of its file (relative or absolute).
        rules: all rules that were checked; those that share an id are one rule here.
        version: of vmgate.
    """
    texts: dict[str, Rule] = {}
    for rule in rules:
        texts.setdefault(rule.id, rule)
    order = {identity: place for place, identity in enumerate(sorted(texts))}
    driver = {
        "name": "vmgate",
        "version": version,
        "rules": [_descriptor(texts[identity]) for identity in sorted(texts)],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(uri, found, order) for uri, found in results]}],
    }


def _descriptor(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.why},
        "help": {"text": f"{rule.fix} Serves {rule.sfr}."},
        "defaultConfiguration": {"level": LEVELS[rule.level]},
    }


def _result(uri: str, found: LintFinding, order: dict[str, int]) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if found.line:
        place["region"] = {"startLine": found.line}
    return {
        "ruleId": found.id,
        "ruleIndex": order[found.id],
        "level": LEVELS[found.level],
        "message": {"text": f"{found.why} {found.fix}"},
        "locations": [{"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": found.xpath}]}],
    }
