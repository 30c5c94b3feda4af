# SPDX-License-Identifier: Apache-2.0
"""The page of requirements, from the table. ``PYTHONPATH=tests python -m lab.requirements_page`` writes it anew."""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

from lab.requirements import CLAIMED, CLAIMS, ELSEWHERE, HARDWARE, Bullet, Requirement, Table, runner, table

PAGE = Path(__file__).resolve().parents[2] / "docs/requirements.md"
HEAD = """# Requirements
vmgate is held against the Essential Security Requirements for Client Virtualization 1.0 (the bullets), and against the
Protection Profile for Virtualization 1.1.1 with the PP-Module for Client Virtualization Systems 1.1 behind them. Titles
are in our own words. This is no certificate: no laboratory has seen it.

A row is *claimed* only if all of it is there and tests show it that passed in the very tree that is released;
`tox -e evidence` compares, at the end of `make test`. *partly* says what is there and what is not. *needs hardware* can
be shown on other machines only. Tests by runner: `unit` needs bytes and temporary files, `integration` a software TPM,
libvirt and QEMU in emulation, `rig` a whole host as a VM, `long` more time than CI has. What is shown in emulation says
nothing about KVM.

This page is made from `tests/sfr.toml`: `PYTHONPATH=tests python -m lab.requirements_page`.

"""
FAMILIES = {
    "FAU": "Audit", "FCS": "Cryptography", "FDP": "Data of virtual machines", "FIA": "Who somebody is",
    "FMT": "Management", "FPT": "Protection of the virtualization system", "FTA": "Access",
    "FTP": "Trusted path and channels", "ALC": "Assurance",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    rows = table()
    parts = [HEAD, _count(rows), _bullets(rows), _matrix(rows)]
    for family, members in groupby(rows.requirements, key=lambda row: row.id[:3]):
        parts.append(f"## {FAMILIES[family]}\n" + "\n".join(_section(row) for row in members))
    return "\n".join(parts)


def _count(rows: Table) -> str:
    lines = ["| tier | " + " | ".join(CLAIMS) + " |", "|---|" + "---|" * len(CLAIMS)]
    for tier in dict.fromkeys(row.tier for row in rows.requirements):
        numbers = [sum((row.tier, row.claim) == (tier, claim) for row in rows.requirements) for claim in CLAIMS]
        lines.append(f"| {tier} | " + " | ".join(str(number) if number else "" for number in numbers) + " |")
    return "## How far it is\n" + "\n".join(lines) + "\n"


def _bullets(rows: Table) -> str:
    lines = ["| bullet | | claimed | not, or not wholly |", "|---|---|---|---|"]
    lines += [_bullet(bullet, rows) for bullet in rows.bullets]
    head = "## The bullets\nEach is what the requirements behind it are. Those that do not apply are not counted.\n\n"
    return head + "\n".join(lines) + "\n"


def _bullet(bullet: Bullet, rows: Table) -> str:
    counted = [rows.by_id[name] for name in bullet.by if rows.by_id[name].claim != ELSEWHERE]
    claimed = sum(row.claim == CLAIMED for row in counted)
    open_ = ", ".join(f"{row.id} ({row.claim})" for row in counted if row.claim != CLAIMED)
    return f"| {bullet.id} | {bullet.title} | {claimed} of {len(counted)} | {open_} |"


def _matrix(rows: Table) -> str:
    lines = ["| requirement | | tier | claim | tests | run in |", "|---|---|---|---|---|---|"]
    for row in rows.requirements:
        link, where = f"[{row.id}](#{_anchor(row)})", ", ".join(row.runners)
        lines.append(f"| {link} | {row.title} | {row.tier} | {row.claim} | {len(row.tests) or ''} | {where} |")
    return "## The matrix\n" + "\n".join(lines) + "\n"


def _anchor(row: Requirement) -> str:
    kept = "".join(letter for letter in _heading(row).lower() if letter.isalnum() or letter in "_- ")
    return kept.replace(" ", "-")


def _heading(row: Requirement) -> str:
    return f"{row.id} {row.title}"


def _section(row: Requirement) -> str:
    lines = [f"### {_heading(row)}", f"*{row.claim}*, {row.tier}."]
    if row.how:
        lines += ["", _wrapped(row.how)]
    if row.missing:
        word = {ELSEWHERE: "Why not", HARDWARE: "Needs"}.get(row.claim, "Missing")
        lines += ["", _wrapped(f"{word}: {row.missing}")]
    if row.tests:
        lines += ["", "| shown by | in |", "|---|---|"]
        lines += [f"| `{test}` | {runner(test)} |" for test in row.tests]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page())
