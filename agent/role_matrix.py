# SPDX-License-Identifier: Apache-2.0
"""The table of functions and roles (``agent.roles``) as people and programs read it. Pure; decides nothing."""

from __future__ import annotations

from agent.roles import ELSEWHERE, FUNCTIONS, ROLES, Function
from documents.canonical import Json

HEADINGS = ("no", "function", *ROLES, "fresh", "serves")


def rows() -> list[list[str]]:
    """One row for each function, as ``HEADINGS`` has it."""
    return [
        [
            function.number,
            function.does,
            *(function.roles.get(role, "-") for role in ROLES),
            "yes" if function.fresh else "-",
            function.sfr,
        ]
        for function in FUNCTIONS
    ]


def members() -> dict[str, Json]:
    """For programs."""
    roles: dict[str, Json] = dict(ROLES)
    return {"roles": roles, "functions": [_members(function) for function in FUNCTIONS]}


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
    verbs = [" ".join(f"`{verb}`" for verb in function.verbs) for function in FUNCTIONS]
    functions = _table((*HEADINGS, "verbs"), [[*row, cell] for row, cell in zip(rows(), verbs, strict=True)])
    elsewhere = _table(("no", "function", "where it is"), [list(row) for row in ELSEWHERE])
    return f"## Roles\n{roles}\n## Functions\n{functions}\n## Functions that are not vmgate's\n{elsewhere}"


def _table(headings: tuple[str, ...], body: list[list[str]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *body]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
