# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm introspect``: what runs in a guest, from its memory. Nothing is asked of the guest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, say, show, table

VIEWS = ("tasks", "modules", "integrity")
LIMITS = "the guest's own lists and tables; what hides from them, or changes data only, is not seen"


@click.command("introspect")
@click.argument("name")
@click.argument("view", type=click.Choice(VIEWS), default=VIEWS[0])
@root_option
@output_option
def introspect(name: str, view: str, root: Path, output: str) -> None:
    """Read a VM's tasks, modules or kernel integrity from its memory, if its definition allows it.

    The VM stands still while its memory is copied.
    """
    result: dict[str, Any] = ask(root, "vm/introspect", name=name, view=view)
    show(output, result, lambda: _DRAW[view](name, result))


def _tasks(name: str, result: dict[str, Any]) -> None:
    rows = [[str(task["pid"]), str(task["uid"]), _kind(task), _listed(task), task["name"]] for task in result["tasks"]]
    table(["PID", "UID", "KIND", "IN THE LIST", "NAME"], rows)
    _end(name, result)


def _kind(task: dict[str, Any]) -> str:
    return "kernel" if task["kernel"] else "process"


def _modules(name: str, result: dict[str, Any]) -> None:
    rows = [[module["name"], _state(module["state"]), _listed(module)] for module in result["modules"]]
    table(["MODULE", "STATE", "IN THE LIST"], rows)
    _end(name, result)


def _listed(entry: dict[str, Any]) -> str:
    """A task or module that is not in the kernel's list hides from the guest's own tools."""
    return "yes" if entry["listed"] else "no: hidden"


def _state(number: int) -> str:
    """Linux ``enum module_state``."""
    return dict(enumerate(("live", "coming", "going", "unformed"))).get(number, f"unknown {number}")


def _end(name: str, result: dict[str, Any]) -> None:
    if not result["compared"]:
        say(f"{name}: this kernel keeps no second record, so that nothing was compared with its list")
    if result["ended"] != "whole":
        say(f"{name}: the list ends early ({result['ended']}): an unlucky moment, or somebody changed it")
    say(f"read from {LIMITS}")


def _integrity(name: str, result: dict[str, Any]) -> None:
    rows = [
        [part, f"{result[part]['pages']} pages", _some(result[part]["changed"], "changed")]
        for part in ("text", "rodata")
    ]
    rows += [
        [part, f"{result[part]['count']} entries", _some(result[part]["outside"], "outside the kernel's text")]
        for part in ("syscalls", "interrupts")
    ]
    table(["PART", "SIZE", "FOUND"], rows)
    words = {
        "taken": "first look in this run: later ones are compared with it",
        "replaced": "the guest started anew by itself: later looks are compared with this one",
        "compared": "compared with the first look in this run",
    }
    say(f"{name}: {words[result['baseline']]}; its types (BTF) are sha256:{result['btf']}")
    say(f"read from {LIMITS}")


def _some(found: list[str], what: str) -> str:
    """A few of many."""
    more = "" if len(found) <= 4 else f" and {len(found) - 4} more"
    return f"{what}: {', '.join(found[:4])}{more}" if found else f"none {what}"


_DRAW = {"tasks": _tasks, "modules": _modules, "integrity": _integrity}
