# SPDX-License-Identifier: Apache-2.0
"""The table of functions and roles as people and programs read it. Pure; decides nothing.

Its rows are in ``agent.roles``, and those of a fleet's service in ``documents.management``.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.roles import ELSEWHERE, FUNCTIONS
from documents.canonical import Json
from documents.management import FLEET_FUNCTIONS, ROLES, Function

HEADINGS = ("no", "function", *ROLES, "fresh", "serves")


def rows(functions: Sequence[Function] = (*FUNCTIONS, *FLEET_FUNCTIONS)) -> list[list[str]]:
    """One row for each function, as ``HEADINGS`` has it."""
    return [
        [
            function.number,
            function.does,
            *(function.roles.get(role, "-") for role in ROLES),
            "yes" if function.fresh else "-",
            function.sfr,
        ]
        for function in functions
    ]


def members() -> dict[str, Json]:
    """For programs."""
    roles: dict[str, Json] = dict(ROLES)
    return {"roles": roles, "functions": [_members(f) for f in (*FUNCTIONS, *FLEET_FUNCTIONS)]}


def _members(function: Function) -> dict[str, Json]:
    return {
        "number": function.number,
        "does": function.does,
        "sfr": function.sfr,
        "roles": dict(function.roles),
        "verbs": list(function.verbs),
        "changes": function.changes,
        "fresh": function.fresh,
    }


def markdown() -> str:
    """For the manual: the roles, the table with its verbs, and the functions that vmgate has not."""
    roles = _table(("role", "is for"), [[role, text] for role, text in ROLES.items()])
    host, fleet = _functions(FUNCTIONS), _functions(FLEET_FUNCTIONS)
    elsewhere = _table(("no", "function", "where it is"), [list(row) for row in ELSEWHERE])
    own = f"## Functions of a fleet's service\n{fleet}\n## Functions that are not vmgate's\n{elsewhere}"
    return f"## Roles\n{roles}\n## Functions\n{host}\n{own}"


def _functions(functions: Sequence[Function]) -> str:
    verbs = [" ".join(f"`{verb}`" for verb in function.verbs) for function in functions]
    body = [[*row, cell] for row, cell in zip(rows(functions), verbs, strict=True)]
    return _table((*HEADINGS, "verbs"), body)


def _table(headings: tuple[str, ...], body: list[list[str]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *body]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
