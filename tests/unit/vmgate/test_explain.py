# SPDX-License-Identifier: Apache-2.0
"""``vmgate explain`` knows every code that anything can print."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent.hook_script
from documents.errors import Exit, VmgateError
from hypervisor.lint import RULES
from lab.source import PACKAGES
from vmgate.main import run


def codes() -> set[str]:
    """The codes of all error classes of all modules, of the linter, and of the hook, which has no classes."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    hook = Path(agent.hook_script.__file__).read_text()
    return {e.code for e in errors(VmgateError)} | {r.id for r in RULES} | set(re.findall(r"error\[(AG\d{3})\]", hook))


def errors(base: type[VmgateError]) -> Iterator[type[VmgateError]]:
    yield base
    for child in base.__subclasses__():
        yield from errors(child)


def test_every_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    known = codes()
    assert len(known) > 100
    for code in sorted(known):
        assert run(["explain", code.lower(), "-o", "json"]) == Exit.DONE, code
        told = json.loads(capsys.readouterr().out)
        assert told["code"] == code
        assert len(told["text"].split()) >= 5, code
        assert told["text"].endswith((".", "`")), code


def test_every_error_has_an_exit_code_of_the_contract() -> None:
    for error in errors(VmgateError):
        assert error.exit in Exit
        assert error.exit not in (Exit.DONE, Exit.INTERRUPTED), error


def test_an_errors_line_has_three_parts_whatever_is_in_them() -> None:
    for hostile in ("a; b; c", "two\nlines", "\x1b[2J", "ends;"):
        line = VmgateError(hostile, cause=hostile, remedy=hostile).line()
        assert line.startswith("error[VG000]: ")
        assert line.count("; ") == 2
        assert line.isprintable()
