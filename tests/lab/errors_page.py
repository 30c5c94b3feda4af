# SPDX-License-Identifier: Apache-2.0
"""The reference of errors, from the table behind ``vmgate explain``. ``PYTHONPATH=tests python -m lab.errors_page``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from documents.errors import VmgateError
from vmgate.commands.explain import HOOK, MODULES

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/errors.md"
HEAD = """# Errors
An error is one line, `error[CODE]: what; cause; what to do`. `vmgate explain CODE` says what stands here; it knows the
[hardening rules](../hardening-rules.md) (HV...) too. The exit code tells programs whose turn it is: 2 and 3 are the
caller's, 5 and 6 are refusals, 7 the administrator's, 8 and 9 the network's ([all exits](commands.md#exit-codes)).

This page is made from the errors: `PYTHONPATH=tests python -m lab.errors_page`.

"""
PACKAGES = {
    "DC": "documents: what is said between processes", "CN": "content: files and digests", "KY": "keys",
    "UP": "updater: delivery", "ME": "measure: TPM, logs, appraisal", "HY": "hypervisor: VMs", "PB": "publisher",
    "AG": "agent: this host", "FL": "fleet: many hosts", "VG": "the command",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    rows = {error.code: (int(error.exit), error.explanation) for error in _errors(VmgateError)}
    rows |= {code: (1, text) for code, text in HOOK.items()}
    parts = [HEAD]
    for prefix, title in PACKAGES.items():
        found = [f"| {code} | {exit_} | {text} |" for code, (exit_, text) in sorted(rows.items()) if code[:2] == prefix]
        if found:
            parts.append(f"## {title}\n| code | exit | |\n|---|---|---|\n" + "\n".join(found) + "\n")
    return "\n".join(parts)


def _errors(base: type[VmgateError]) -> Iterator[type[VmgateError]]:
    for name in MODULES:
        importlib.import_module(name)
    for child in base.__subclasses__():
        if "code" in vars(child):
            yield child
        yield from _errors(child)


if __name__ == "__main__":
    PAGE.write_text(page())
