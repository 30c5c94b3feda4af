# SPDX-License-Identifier: Apache-2.0
"""The last step of CI: every claim of ``tests/sfr.toml`` is shown by tests that passed in this very tree.

    PYTHONPATH=tests python -m lab.evidence

Standard library only. It runs no test. A test that is beyond CI's budget (``long``) shows something only in its own
runner, so it is not asked for here, and no claim may stand on such tests alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from lab import outcomes
from lab.requirements import CLAIMED, CLAIMS, Table, runner, table


def unshown(rows: Table, found: Mapping[str, str]) -> list[str]:
    """What is claimed and was not shown: a line for each."""
    wrong = []
    for row in rows.requirements:
        asked = [test for test in row.tests if runner(test) != "long"]
        if row.claim == CLAIMED and not asked:
            wrong.append(f"{row.id}: claimed, and no test of CI shows it")
        wrong += [f"{row.id}: {test}: {found.get(test, 'not run')}" for test in asked if found.get(test) != "passed"]
    return wrong


def main() -> int:
    """Print what is not shown; 0 if all is."""
    rows = table()
    found = outcomes.load(outcomes.folder(), outcomes.fingerprint())
    wrong = unshown(rows, found)
    for line in wrong:
        print(line)
    if wrong:
        print(
            f"evidence: {len(wrong)} of the tests that claims stand on did not pass in this tree; `make test` runs them"
        )
        return 1
    counted = ", ".join(f"{sum(row.claim == claim for row in rows.requirements)} {claim}" for claim in CLAIMS)
    print(f"evidence: {counted}; {len({test for row in rows.requirements for test in row.tests})} tests show it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
