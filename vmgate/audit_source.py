# SPDX-License-Identifier: Apache-2.0
"""Where ``vmgate audit list`` has its records from: the files, or the agent for whoever may not read those.

This module decides nothing and verifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import audit
from agent.administration import MAX_RECORDS
from agent.paths import HostPaths
from content.errors import StorageDenied
from documents.audit import AuditRecord
from vmgate.commands.host import ask


def records(root: Path) -> Iterator[AuditRecord]:
    """The records, oldest first; from the agent the newest ones only, as many as it tells.

    Raises:
        NotPermitted, AgentSaid: neither may be read.
    """
    try:
        yield from audit.records(HostPaths(root).audit)
    except StorageDenied:
        told: dict[str, Any] = ask(root, "audit/list", last=str(MAX_RECORDS))
        yield from (AuditRecord.parse(line.encode()) for line in told["lines"])
