# SPDX-License-Identifier: Apache-2.0
"""The audit trail of one host: written durably before an act, and again with its outcome.

The trail is one file of canonical records, one a line; its head is kept in a file of its own, so that cutting the end
off shows. This module does not decide what is recorded, and does not off-load.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from content import durable
from content.errors import ContentError, Missing
from content.tail import read_from
from documents.audit import AuditHead, AuditRecord, SignedHead, verify_chain
from documents.canonical import Json, decode, encode
from documents.errors import DocumentError
from documents.fields import Fields

log = logging.getLogger(__name__)

CHUNK = 1024 * 1024
"""Bytes of a trail that are read at a time, and more than a record can have."""


class Failure:
    """A time in which no record could be written.

    Args:
        since: when it began, seconds since 1970 UTC.
        cause: of the first failure.
        code: of its error.

    Attributes:
        count: records that were not written, whose acts did not happen.
    """

    def __init__(self, since: int, cause: str, code: str) -> None:
        self._since = since
        self.cause = cause
        self._code = code
        self.count = 0

    def told(self) -> dict[str, str]:
        """Details of the record that is written as soon as one can be."""
        return {"since": str(self._since), "cause": self.cause, "code": self._code, "unwritten": str(self.count)}


class AuditTrail:
    """The trail in one folder; one process writes it.

    When a record cannot be written, its act must not happen: that is the policy for a full disk, and there is no other.
    The failure is said to the journal at once and recorded before the next record that can be written.

    Attributes:
        observers: each sees every record once it is durable; they must not raise. They may write records of their own.

    Args:
        directory: the folder; made when missing.
        clock: gives seconds since 1970 UTC.
        boot: the kernel's boot id.
    """

    def __init__(self, directory: Path, clock: Callable[[], int], boot: str) -> None:
        durable.make_directory(directory)
        self._directory = directory
        self._clock = clock
        self._boot = boot
        self._lock = threading.Lock()
        self._failure: Failure | None = None
        self.observers: list[Callable[[AuditRecord], None]] = []
        self._head = self._recover()

    def _recover(self) -> AuditHead:
        """Verify the trail and drop what a power cut left of an unfinished record."""
        trail = _Lines(trail_path(self._directory))
        # First verified, then cut: a trail that is broken stays as it is.
        head = verify_chain(trail, read_head(self._directory))
        if trail.length < trail.read:
            durable.truncate(trail.path, trail.length)
        self._keep_head(head)
        return head

    def append(self, event: str, outcome: str, subject: str, actor: str, **details: str) -> AuditRecord:
        """Write one record; it is durable when this returns. Texts of others are made printable and cut.

        Raises:
            ContentError: it could not be written, so what it announces must not happen.
            ValueError: the record could not be read again: a bug of the caller; nothing was written.
        """
        with self._lock:
            try:
                if self._failure is not None:
                    self._append("audit-failure", "failed", "audit", "agent", self._failure.told())
                    self._failure = None
                record = self._append(event, outcome, subject, actor, details)
            except ContentError as error:
                self._failed(error)
                raise
        for look in self.observers:
            look(record)
        return record

    def _failed(self, error: ContentError) -> None:
        """Remember what could not be recorded, and say it once where the disk is not needed for it."""
        if self._failure is None:
            self._failure = Failure(since=max(0, self._clock()), cause=error.cause, code=error.code)
            log.critical("the audit trail cannot be written, so nothing that must be recorded is done: %s", error)
        self._failure.count += 1

    @property
    def failure(self) -> str:
        """Why no record can be written now; empty while they can."""
        return self._failure.cause if self._failure is not None else ""

    def _append(self, event: str, outcome: str, subject: str, actor: str, details: dict[str, str]) -> AuditRecord:
        record = AuditRecord(
            sequence=self._head.sequence + 1,
            time=max(0, self._clock()),
            boot=self._boot,
            event=event,
            outcome=outcome,
            subject=_printable(subject)[:300],
            actor=_printable(actor)[:120] or "?",
            details=tuple(sorted((name, _printable(text)[:1_000]) for name, text in details.items())),
            previous=self._head.hash,
        )
        line = record.encode()
        try:
            AuditRecord.parse(line)
        except DocumentError as error:
            raise ValueError(f"an audit record that cannot be read again: {error}") from error
        durable.append(trail_path(self._directory), line + b"\n")
        self._head = AuditHead(sequence=record.sequence, hash=record.hash())
        self._keep_head(self._head)
        return record

    def _keep_head(self, head: AuditHead) -> None:
        members: dict[str, Json] = {"sequence": head.sequence, "hash": head.hash}
        durable.write_file(self._directory / "head.json", encode(members))

    @property
    def head(self) -> AuditHead:
        """The end of the trail."""
        return self._head


def signed_head_path(directory: Path) -> Path:
    """The file that holds the newest signed head."""
    return directory / "signed-head.json"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() and not 0x200B <= ord(c) <= 0x206F else "?" for c in text)


def trail_path(directory: Path) -> Path:
    """The file that holds the records."""
    return directory / "trail.jsonl"


def read_head(directory: Path) -> AuditHead | None:
    """The head that was kept apart, or None for a trail that never had a record."""
    try:
        untrusted = durable.read_file(directory / "head.json", 1_000)
    except Missing:
        return None
    fields = Fields(decode(untrusted, 1_000, "audit head"), "audit head")
    head = AuditHead(sequence=fields.take_int("sequence", 0, 2**60), hash=fields.take_digest("hash"))
    fields.finish()
    return head


class _Lines:
    """The whole records of a trail, encoded, without their line ends; what is in memory is bounded.

    What a power cut may leave of the last record is left out: a beginning, or zeros (``durable.append``).

    Attributes:
        path: of the trail.
        length: bytes of the records, once all were read.
        read: bytes of the file, once all were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        self.length = self.read = 0
        rest, last = b"", None
        while chunk := read_from(self.path, self.read, CHUNK):
            self.read += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if last is not None:
                    yield self._counted(last)
                last = line
            if len(rest) > CHUNK:
                # No record is as long, so that no power cut left this: whoever parses it says so.
                yield from (line for line in (last, rest) if line is not None)
                return
        if last is not None and b"\0" not in last:
            yield self._counted(last)

    def _counted(self, line: bytes) -> bytes:
        self.length += len(line) + 1
        return line


def verify(directory: Path, through: AuditHead | None = None) -> AuditHead:
    """Verify a trail that nobody is writing.

    Args:
        directory: its folder.
        through: a head known from elsewhere, such as a signed one; without it the head that was kept apart.

    Raises:
        AuditBroken: it is not what was written.
    """
    # The head first: a record that is written meanwhile comes after it.
    head, lines = read_head(directory), _Lines(trail_path(directory))
    if through is not None:
        verify_chain(lines, through)
    return verify_chain(lines, head)


def read_signed_head(directory: Path) -> SignedHead | None:
    """The newest signed head, or None where none was signed yet. Its signature is not verified here."""
    try:
        return SignedHead.parse(durable.read_file(signed_head_path(directory), SignedHead.LIMIT))
    except Missing:
        return None


def records(directory: Path) -> Iterator[AuditRecord]:
    """The records, oldest first. Verify the trail before you believe them."""
    for line in _Lines(trail_path(directory)):
        yield AuditRecord.parse(line)
