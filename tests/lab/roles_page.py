# SPDX-License-Identifier: Apache-2.0
"""The page of roles, made from the table. ``PYTHONPATH=tests python -m lab.roles_page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from agent.role_matrix import markdown

PAGE = Path(__file__).resolve().parents[2] / "docs/roles.md"
HEAD = """# Who may do what
The agent decides about each request by this table; `vmgate role matrix` prints it. Numbers are those of FMT_MOF_EXT.1
in the PP-Module for Client Virtualization Systems 1.1, V1 and on are vmgate's own. Root has every function. `own VMs`:
as far as it is about a VM that was assigned. `fresh`: somebody else than root authenticates anew, each time. A verb
with `+stale` is that verb with `--allow-stale`. [The host guide](guide/host.md#who-may-do-what) says how roles are
granted. F1 and on are functions of a fleet's service, where `fresh` asks for the password; who has its machine has
all of them. This page is made from the table: `PYTHONPATH=tests python -m lab.roles_page`.

"""


def page() -> str:
    """The whole page."""
    return HEAD + markdown()


if __name__ == "__main__":
    PAGE.write_text(page())
