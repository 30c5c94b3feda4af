# SPDX-License-Identifier: Apache-2.0
"""Bringing the fleet what it does not have of this host's audit trail, with the newest head that the TPM signed.

The fleet verifies the chain and says how far it has it; this host believes that no further than to know what to send.
Records are sent as they lie in the trail. This module writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from agent.audit import read_signed_head, records
from agent.membership.errors import TrailBehind
from agent.membership.link import Link
from agent.paths import HostPaths
from content import durable
from content.errors import Missing
from documents.audit import AuditHead
from documents.fleet_answers import BATCH, AuditReceipt, AuditUpload
from documents.host_state import PurposeKey

BYTES: Final = 2_000_000
"""Of the records of one upload; in base64 they are a third more."""

UPLOADS: Final = 50
"""Most of them in one go: who was away for long goes on the next time."""


class Witness:
    """Brings the trail of one host.

    Args:
        paths: of the host.
    """

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths
        self._receipt: AuditReceipt | None = None

    def bring(self, link: Link, head: AuditHead) -> AuditReceipt:
        """Bring what is missing, up to a head; returns how far the fleet has the trail.

        Raises:
            TrailBehind: the fleet has more than this host.
            FleetRefused: the records do not follow those that the fleet has.
            UpdaterError: the fleet does not answer.
        """
        # Kept again only when all went well: a fleet that came back from a backup has less than it said before.
        kept, self._receipt = self._receipt, None
        receipt = kept or _upload(link, AuditUpload(records=(), head=b"", key=b""))
        for _ in range(UPLOADS):
            if receipt.sequence > head.sequence:
                raise TrailBehind(
                    "the audit trail was not brought to the fleet",
                    cause=f"the fleet has {receipt.sequence} records, and this host {head.sequence}",
                    remedy="compare the trails",
                )
            found, last = self._after(receipt.sequence, head.sequence)
            upload = self._with_head(found, last, receipt.signed)
            if not upload.records and not upload.head:
                break
            receipt = _upload(link, upload)
        self._receipt = receipt
        return receipt

    def forget(self) -> None:
        """Ask the fleet anew how far it is, the next time."""
        self._receipt = None

    def _after(self, sequence: int, end: int) -> tuple[tuple[bytes, ...], int]:
        """Records from there on, as many as fit, and the number of the last one."""
        if sequence >= end:
            return (), sequence
        found = tuple(_fitting(self._paths, sequence, end))
        return found, sequence + len(found)

    def _with_head(self, found: tuple[bytes, ...], last: int, signed: int) -> AuditUpload:
        """With the signed head, once all records up to it go along, and where the fleet does not have it."""
        try:
            head, key = read_signed_head(self._paths.audit), durable.read_file(self._paths.audit_key, PurposeKey.LIMIT)
        except Missing:
            head, key = None, b""
        if head is None or not signed < head.head.sequence <= last:
            return AuditUpload(records=found, head=b"", key=b"")
        public = replace(PurposeKey.parse(key), private=b"")
        return AuditUpload(records=found, head=head.encode(), key=public.encode())


def _fitting(paths: HostPaths, sequence: int, end: int) -> Iterator[bytes]:
    count = size = 0
    for record in records(paths.audit):
        if not sequence < record.sequence <= end:
            continue
        line = record.encode()
        count, size = count + 1, size + len(line)
        if count > BATCH or (size > BYTES and count > 1):
            return
        yield line


def _upload(link: Link, upload: AuditUpload) -> AuditReceipt:
    return link.signed("audit", lambda _nonce: upload.encode(), AuditReceipt)
