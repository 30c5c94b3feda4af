# SPDX-License-Identifier: Apache-2.0
"""What the source says it records, and whether records have what the table of events promises.

``recorded`` reads every call that writes a record; ``require_as_promised`` looks at records that were really written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from documents.audit import AuditRecord
from documents.audit_events import event
from lab.source import Module, modules

WRITERS = frozenset({"append", "_append", "_record", "_recorded"})
"""Functions that write a record, with the event and the outcome as their first arguments; see ``_calls``."""

PASSED_ON = {
    ("agent.audit", "_append"), ("agent.checkpoints", "append"), ("agent.devices", "append"),
    ("agent.offload.worker", "append"), ("agent.recovery", "append"), ("agent.updates", "append"),
}  # fmt: skip
"""Where such a function passes on the name that its caller gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that writes a record.

    Attributes:
        where: module and line.
        names: of the events that it may give.
        outcome: empty where the source does not tell.
        details: their names.
        open: there may be more details.
    """

    where: str
    names: frozenset[str]
    outcome: str
    details: frozenset[str]
    open: bool


def recorded() -> list[Call]:
    """Every call of the product that writes an audit record."""
    return [call for module in modules() if module.package in {"agent", "vmgate"} for call in _calls(module)]


def _calls(module: Module) -> Iterator[Call]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or len(node.args) < 2:
            continue
        function, name, outcome = node.func.attr, node.args[0], node.args[1]
        passes_on = isinstance(name, ast.Name) and (module.name, function) in PASSED_ON
        if function not in WRITERS or passes_on or (function.endswith("append") and len(node.args) < 4):
            continue
        details = {keyword.arg for keyword in node.keywords if keyword.arg}
        if function == "_record":
            details.add("server")
        yield Call(
            where=f"{module.name}:{node.lineno}",
            names=_texts(module.tree, name),
            # What ``_recorded`` begins has its outcome later; its details are those of the beginning.
            outcome="started"
            if function == "_recorded"
            else outcome.value
            if isinstance(outcome, ast.Constant)
            else "",
            details=frozenset(details),
            open=function == "_append" or any(keyword.arg is None for keyword in node.keywords),
        )


def _texts(tree: ast.Module, expression: ast.expr) -> frozenset[str]:
    """All texts that an expression may stand for: its own, or those that its module gives to the name anywhere."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return frozenset({expression.value})
    found: set[str] = set()
    if isinstance(expression, ast.Name):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                first = target.elts[0] if isinstance(target, ast.Tuple) else target
                if isinstance(first, ast.Name) and first.id == expression.id:
                    found |= _firsts(node.value)
    return frozenset(found)


def _firsts(value: ast.expr) -> set[str]:
    if isinstance(value, ast.IfExp):
        return _firsts(value.body) | _firsts(value.orelse)
    if isinstance(value, ast.Tuple):
        return _firsts(value.elts[0])
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def require_as_promised(records: Iterable[AuditRecord]) -> set[tuple[str, str]]:
    """Require that each record is one of the table, with its details; returns which events and outcomes came."""
    came: set[tuple[str, str]] = set()
    for record in records:
        promised = event(record.event)
        if promised is None:
            raise AssertionError(f"the event {record.event!r} is not in documents.audit_events")
        details = promised.required(record.outcome)
        if details is None:
            raise AssertionError(f"{record.event} has no outcome {record.outcome!r} in documents.audit_events")
        missing = set(details) - {name for name, _ in record.details}
        if missing:
            raise AssertionError(f"{record.event} {record.outcome} lacks {sorted(missing)}: {record}")
        came.add((record.event, record.outcome))
    return came
