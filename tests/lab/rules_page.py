# SPDX-License-Identifier: Apache-2.0
"""The page of hardening rules, made from the rules. ``PYTHONPATH=tests python -m lab.rules_page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from hypervisor.fixes import FIXES
from hypervisor.lint import RULES
from hypervisor.rules.rule import Rule
from hypervisor.rules.together import TOGETHER

PAGE = Path(__file__).resolve().parents[2] / "docs/hardening-rules.md"
HEAD = """# Hardening rules
Every VM's domain XML is checked against these rules by `vmgate vm lint FILE...` and by the gate at each start, in the
form in which libvirt is about to start it. `deny`: it does not start. `grant`: only where an administrator granted it.
`warn`: weaker than the best. What no rule knows, element or attribute, is denied (HV000).

`vmgate vm lint --fix FILE` prints the XML with all repairs made that take nothing from the VM (column "repair").
`vmgate vm lint -o sarif` is for code hosts and editors. A rule never changes its meaning; `vmgate explain HV031` tells
it.
This page is made from the rules: `PYTHONPATH=tests python -m lab.rules_page`.

"""
COLUMNS = "| rule | level | where | why | safe form | repair | serves |\n|---|---|---|---|---|---|---|\n"
LATER = """
## Not rules of this linter
| id | what | where it is instead |
|---|---|---|
| HV055 | a VM on the management network | not checked: no network is marked as one of management yet |
| HV091 | the XML is not what the definition renders to | the gate, check 7 (`vm why`: check `domain`) |
| HV092 | a managed save that vmgate did not make | the gate refuses every restore (`vm why`) |
| HV093 | taint flags of a running domain | not checked yet |
"""


def page() -> str:
    """The whole page."""
    alone = "".join(_row(rule) for rule in RULES)
    together = "".join(_row(rule) for rule in sorted(TOGETHER, key=lambda rule: rule.id))
    return f"{HEAD}## One VM\n{COLUMNS}{alone}\n## The VMs of one host together\n{COLUMNS}{together}{LATER}"


def _row(rule: Rule) -> str:
    where = "<br>".join(f"`{_cell(one)}`" for one in rule.where) or "computed"
    repaired = "yes" if rule.id in {repair.id for repair in FIXES} and rule not in TOGETHER else ""
    return f"| {rule.id} | {rule.level} | {where} | {rule.why} | {_cell(rule.fix)} | {repaired} | {rule.sfr} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
