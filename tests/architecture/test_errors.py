# SPDX-License-Identifier: Apache-2.0
"""Errors are an interface: each has a code of its own, and `vmgate explain` has something to say about it."""

from __future__ import annotations

import importlib
import re
from collections import Counter

from documents.errors import Exit, VmgateError
from lab.source import modules

PREFIX = {
    "documents": "DC",
    "content": "CN",
    "keys": "KY",
    "updater": "UP",
    "measure": "ME",
    "hypervisor": "HY",
    "publisher": "PB",
    "agent": "AG",
    "fleet": "FL",
    "vmgate": "VG",
}


def _errors() -> list[type[VmgateError]]:
    """Every error class of the product; all modules are loaded, so that none hides."""
    for module in modules():
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[VmgateError]] = []
    waiting = VmgateError.__subclasses__()
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__.partition(".")[0] in PREFIX and cls not in found:
            found.append(cls)
    return found


def test_every_error_has_a_code_of_its_own() -> None:
    errors = _errors()
    assert errors
    assert not [c.__qualname__ for c in errors if "code" not in vars(c)]
    assert not {code for code, times in Counter(c.code for c in errors).items() if times > 1}


def test_a_code_tells_its_package() -> None:
    wrong = [
        f"{c.__module__}.{c.__qualname__} {c.code}"
        for c in _errors()
        if not re.fullmatch(PREFIX[c.__module__.partition(".")[0]] + r"\d{3}", c.code)
    ]
    assert not wrong


def test_every_error_explains_itself() -> None:
    silent = [c.__qualname__ for c in _errors() if "explanation" not in vars(c) or len(c.explanation) < 20]
    assert not silent


def test_every_error_lives_in_an_errors_module_and_has_an_exit_code() -> None:
    """A document's own error stands beside it; all others where they load without the rest."""
    strays = [c.__module__ for c in _errors() if not c.__module__.endswith("errors")]
    assert not [name for name in strays if not name.startswith("documents.")]
    assert not [c.__qualname__ for c in _errors() if not isinstance(c.exit, Exit) or c.exit == Exit.DONE]
