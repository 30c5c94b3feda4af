# SPDX-License-Identifier: Apache-2.0
"""`make demo`: what vmgate exists for, end to end, on real parts, refusals included.

Everything happens below one folder and in a mount namespace; only the demo's own processes are ended. Exit 0 only if
every step did what it should.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.story import STEPS, Story
from lab import libvirt_host

CHECKOUT = Path(__file__).resolve().parents[2]
WIDTH = 100


def main() -> int:
    """Run the steps in their order and print the table."""
    if os.geteuid() != 0:
        print("the demo needs root: it makes a mount namespace and starts a libvirt of its own")
        return 1
    cache = Path(os.environ.get("VMGATE_CACHE", CHECKOUT / ".cache"))
    print("vmgate demo: software TPM (assurance level L0), QEMU by emulation (TCG), libvirt of its own.")
    rows: list[tuple[str, str, str]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmgate-demo-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with libvirt_host.running(folder / "libvirt") as libvirt:
            story = Story(folder, cache, libvirt)
            try:
                _tell(story, rows)
            finally:
                story.close()
    _table(rows)
    good = len(rows) == len(STEPS) and all(outcome == "as it should" for _, outcome, _ in rows)
    print(f"\n{'Everything went as it should' if good else 'NOT everything went as it should'}, "
          f"{time.monotonic() - began:.0f} s.")  # fmt: skip
    return 0 if good else 1


def _tell(story: Story, rows: list[tuple[str, str, str]]) -> None:
    for number, (title, step) in enumerate(STEPS, 1):
        print(f"\n{'=' * WIDTH}\n{number}. {title}\n{'=' * WIDTH}", flush=True)
        began = time.monotonic()
        try:
            note = step(story)
            outcome = "as it should"
        except (RuntimeError, OSError) as error:
            note, outcome = str(error), "FAILED"
            print(f"FAILED: {error}")
        rows.append((f"{number}. {title}", outcome, f"{note} ({time.monotonic() - began:.0f} s)"))
        if outcome == "FAILED":
            return


def _table(rows: list[tuple[str, str, str]]) -> None:
    print(f"\n{'=' * WIDTH}")
    widest = max(len(title) for title, _ in STEPS) + 4
    for title, outcome, note in rows:
        print(f"{title:<{widest}}  {outcome:<12}  {note}")
    for number, (title, _) in enumerate(STEPS[len(rows) :], len(rows) + 1):
        print(f"{f'{number}. {title}':<{widest}}  {'not reached':<12}")


if __name__ == "__main__":
    sys.exit(main())
