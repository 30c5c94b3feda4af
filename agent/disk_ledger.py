# SPDX-License-Identifier: Apache-2.0
"""The newest number of each disk's state record, as the audit trail tells it: an older record was copied back.

The trail is read once, and each record that is written later is seen as it is written. Whoever takes back the trail as
well is found by its signed head and by what was off-loaded, not here.
"""

from __future__ import annotations

from agent.audit import AuditTrail, records
from agent.paths import HostPaths
from documents.audit import AuditRecord

NUMBERED = frozenset({"disk-state", "disk-accept", "disk-import", "disk-restore"})
DELETED = "vm-delete"


class DiskLedger:
    """Knows the newest numbers.

    Args:
        paths: of the host.
        audit: the trail, which must not be written by another process.
    """

    def __init__(self, paths: HostPaths, audit: AuditTrail) -> None:
        self._paths = paths
        self._known: dict[tuple[str, str], int] | None = None
        audit.observers.append(self.see)

    def newest(self, vm: str, disk: str) -> int:
        """The highest number that was recorded of a disk since its VM was deleted last; 0 for none.

        Args:
            vm: UUID of the VM.
            disk: name of the disk.
        """
        if self._known is None:
            self._known = {}
            for record in records(self._paths.audit):
                self.see(record)
        return self._known.get((vm, disk), 0)

    def see(self, record: AuditRecord) -> None:
        """Take note of an audit record."""
        if self._known is None:
            return
        details = dict(record.details)
        vm, disk, number = details.get("uuid", ""), details.get("disk", ""), details.get("number", "")
        if record.event in NUMBERED and record.outcome in ("started", "done") and number.isdecimal():
            self._known[vm, disk] = max(int(number), self._known.get((vm, disk), 0))
        elif record.event == DELETED and record.outcome == "done":
            self._known = {key: known for key, known in self._known.items() if key[0] != vm}
