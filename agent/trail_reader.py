# SPDX-License-Identifier: Apache-2.0
"""Reads an audit trail while it grows, piece by piece, and checks the chain from where it began to read.

What a reader has in memory is bounded, however long the trail is. This module does not verify a trail from its first
record (``agent.audit.verify`` does) and writes nothing.
"""

from __future__ import annotations

from pathlib import Path

from agent.audit import trail_path
from content.tail import read_from
from documents.audit import AuditBroken, AuditHead, AuditRecord
from documents.errors import DocumentError

CHUNK = 1024 * 1024
"""Bytes that are read at a time; more than one record can have."""


class TrailReader:
    """A place in the trail of one folder; a new one stands before the first record."""

    def __init__(self, directory: Path) -> None:
        self._path = trail_path(directory)
        self._offset = 0
        self.at = AuditHead()

    def go_after(self, sequence: int) -> None:
        """Stand after one record, or at the trail's end where that comes before; 0 is the beginning.

        Raises:
            AuditBroken: the record there is none, or another's.
            ContentError: the trail cannot be read.
        """
        self._offset, self.at = 0, AuditHead()
        left = sequence - 1
        while left > 0:
            chunk = read_from(self._path, self._offset, CHUNK)
            count = chunk.count(b"\n")
            if count == 0:
                return
            if count <= left:
                left, self._offset = left - count, self._offset + chunk.rfind(b"\n") + 1
                continue
            # The record that was asked for begins in this chunk.
            where = -1
            for _ in range(left):
                where = chunk.index(b"\n", where + 1)
            left, self._offset = 0, self._offset + where + 1
        if sequence > 0:
            # Its hash is what the next one must hold.
            self._read(1, AuditHead(sequence=sequence - 1, hash=""))

    def read(self, most: int) -> list[AuditRecord]:
        """The next whole records, at most so many; none where there are none yet.

        Raises:
            AuditBroken: the next record does not follow the one before it.
            ContentError: the trail cannot be read.
        """
        return self._read(most, self.at)

    def ended(self) -> bool:
        """Whether there is nothing after this place now."""
        return b"\n" not in read_from(self._path, self._offset, CHUNK)

    def _read(self, most: int, after: AuditHead) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        chunk = read_from(self._path, self._offset, CHUNK)
        begin = 0
        while len(found) < most and (end := chunk.find(b"\n", begin)) >= 0:
            record = self._parse(chunk[begin:end], after)
            after = self.at = AuditHead(sequence=record.sequence, hash=record.hash())
            found.append(record)
            begin = end + 1
        self._offset += begin
        return found

    def _parse(self, untrusted_line: bytes, after: AuditHead) -> AuditRecord:
        try:
            record = AuditRecord.parse(untrusted_line)
        except DocumentError as error:
            raise _broken(after.sequence + 1, error.cause) from error
        if record.sequence != after.sequence + 1 or after.hash not in ("", record.previous):
            raise _broken(after.sequence + 1, "it does not follow the record before it")
        return record


def _broken(sequence: int, cause: str) -> AuditBroken:
    return AuditBroken(
        f"the audit trail is broken at record {sequence}",
        cause=cause,
        remedy="keep the files and compare them with the off-loaded copy",
    )
