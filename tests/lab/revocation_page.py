# SPDX-License-Identifier: Apache-2.0
"""The page of revocations, made from the table. ``PYTHONPATH=tests python -m lab.revocation_page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from agent.revocation import CAUSES, STATES, row

PAGE = Path(__file__).resolve().parents[2] / "docs/revocation.md"
HEAD = """# What becomes of a VM that was taken back
One table: why it was taken back, and what state it is in then. The signed policy of the platform says whether a running
VM is suspended or killed, after how many seconds, and with which words ([the guide](guide/gate.md#taken-back)).
This page is made from `agent/revocation.py`: `PYTHONPATH=tests python -m lab.revocation_page`.

"""


def page() -> str:
    """The whole page."""
    causes = "".join(f"| `{name}` | {text} |\n" for name, text in CAUSES.items())
    states = "".join(f"| {name} | {text} |\n" for name, text in STATES.items())
    rows = "".join(_row(cause, state) for cause in CAUSES for state in STATES)
    return (
        f"{HEAD}| cause | meaning |\n|---|---|\n{causes}\n| state | meaning |\n|---|---|\n{states}\n"
        f"| cause | state | when | what becomes of it |\n|---|---|---|---|\n{rows}"
    )


def _row(cause: str, state: str) -> str:
    cell = row(cause, state)
    return f"| `{cause}` | {state} | {cell.when} | {'; '.join(cell.acts) or 'nothing'} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
