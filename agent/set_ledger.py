# SPDX-License-Identifier: Apache-2.0
"""The numbers of the sets that were made and taken of each VM, as the audit trail tells them.

A set that was exported here may come back as long as the VM did not run here since; one that was imported comes once.
So a host never takes an older state of a VM than it knows. Who takes back the trail as well is found by its signed
heads and by what was off-loaded, not here.
"""

from __future__ import annotations

from agent.audit import AuditTrail, records
from agent.paths import HostPaths
from documents.audit import AuditRecord

EXPORTED, IMPORTED, STARTED = "vm-export", "vm-import", "vm-start"


class SetLedger:
    """Of one host.

    Args:
        paths: of the host.
        audit: the trail, which must not be written by another process.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail) -> None:
        self._paths = paths
        self._least: dict[str, int] | None = None
        self._exported: dict[str, dict[str, int]] = {}
        audit.observers.append(self.see)

    def least(self, uuid: str) -> int:
        """The lowest number of a set of a VM that may be imported; 1 where nothing is known of it."""
        return self._known().get(uuid, 1)

    def next(self, uuid: str) -> int:
        """The number of the VM's next set."""
        newest = max((held.get(uuid, 0) for held in self._exported.values()), default=0) if self._known() else 0
        return max(self.least(uuid), newest + 1)

    def _known(self) -> dict[str, int]:
        if self._least is None:
            self._least = {}
            for record in records(self._paths.audit):
                self.see(record)
        return self._least

    def see(self, record: AuditRecord) -> None:
        """Take note of an audit record."""
        if self._least is None:
            return
        details = dict(record.details)
        uuid, number = details.get("uuid", ""), details.get("number", "")
        if record.event == EXPORTED and record.outcome in ("started", "done") and number.isdecimal():
            if record.outcome == "done":
                self._least[uuid] = max(self._least.get(uuid, 1), int(number))
            self._exported.setdefault(record.subject, {})[uuid] = int(number)
        elif record.event == IMPORTED and record.outcome == "done" and number.isdecimal():
            self._least[uuid] = max(self._least.get(uuid, 1), int(number) + 1)
        elif record.event == STARTED and record.outcome in ("started", "done"):
            for known, exported in self._exported.get(record.subject, {}).items():
                self._least[known] = max(self._least.get(known, 1), exported + 1)
