# SPDX-License-Identifier: Apache-2.0
"""Whatever is done to a trail of audit records, the first record that no longer fits is named."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from documents.audit import GENESIS, AuditBroken, AuditHead, AuditRecord, verify_chain
from lab.documents import chain, damaged

RECORDS = chain(5)
LINES = [record.encode() for record in RECORDS]
HEAD = AuditHead(sequence=5, hash=RECORDS[-1].hash())
EACH = pytest.mark.parametrize("index", range(5))


def broken(lines: list[bytes], number: int, head: AuditHead | None = HEAD) -> None:
    """The trail is refused, and record ``number`` is named."""
    with pytest.raises(AuditBroken, match=rf"^the audit trail is broken at record {number};") as caught:
        verify_chain(lines, head)
    assert caught.value.exit == 5


def changed(index: int) -> AuditRecord:
    return dataclasses.replace(RECORDS[index], outcome="done")


def rewritten(index: int) -> list[bytes]:
    """The trail as somebody leaves it who changes a record and mends the chain behind it."""
    lines, previous = list(LINES[:index]), RECORDS[index].previous
    for record in [changed(index), *RECORDS[index + 1 :]]:
        mended = dataclasses.replace(record, previous=previous)
        previous = mended.hash()
        lines.append(mended.encode())
    return lines


def test_sane() -> None:
    assert verify_chain(LINES) == HEAD
    assert verify_chain(LINES, HEAD) == HEAD
    assert verify_chain([]) == AuditHead(sequence=0, hash=GENESIS)
    assert verify_chain([], AuditHead()) == AuditHead()
    assert RECORDS[1].previous == hashlib.sha256(LINES[0]).hexdigest()


def test_a_trail_may_have_grown_since_its_head_was_kept() -> None:
    for index in range(5):
        kept = AuditHead(sequence=index + 1, hash=RECORDS[index].hash())
        assert verify_chain(LINES, kept) == HEAD


@EACH
def test_changed(index: int) -> None:
    lines = [*LINES[:index], changed(index).encode(), *LINES[index + 1 :]]
    # What follows does not fit any more; nothing follows the last, and the head kept apart tells.
    broken(lines, min(index + 2, 5))


@EACH
def test_damaged(index: int) -> None:
    for untrusted in damaged(LINES[index]):
        with pytest.raises(AuditBroken) as caught:
            verify_chain([*LINES[:index], untrusted, *LINES[index + 1 :]], HEAD)
        assert caught.value.what.endswith((f" {index + 1}", f" {index + 2}"))


@EACH
def test_removed(index: int) -> None:
    broken([*LINES[:index], *LINES[index + 1 :]], index + 1)


@EACH
def test_inserted(index: int) -> None:
    broken([*LINES[:index], LINES[index], *LINES[index:]], index + 2)
    broken([*LINES[:index], b"", *LINES[index:]], index + 1)
    forged = dataclasses.replace(RECORDS[index], subject="other").encode()
    # The forged record fits; the true one after it does not.
    broken([*LINES[:index], forged, *LINES[index:]], index + 2 if index < 4 else 5)


@pytest.mark.parametrize("index", range(4))
def test_reordered(index: int) -> None:
    lines = list(LINES)
    lines[index], lines[index + 1] = lines[index + 1], lines[index]
    broken(lines, index + 1)


@EACH
def test_cut_off_shows_against_the_head(index: int) -> None:
    broken(LINES[:index], index + 1)
    assert verify_chain(LINES[:index]).sequence == index


@EACH
def test_mended_chain_shows_against_the_head(index: int) -> None:
    lines = rewritten(index)
    assert verify_chain(lines).sequence == 5
    broken(lines, 5)


def test_added_records_that_fit_are_the_business_of_signed_heads() -> None:
    more = chain(7)
    assert verify_chain([record.encode() for record in more], HEAD).sequence == 7


def test_another_trail() -> None:
    other = [dataclasses.replace(RECORDS[0], boot="00000000-0000-0000-0000-000000000000").encode()]
    broken(other, 2)
    broken(other, 1, AuditHead(sequence=1, hash=RECORDS[0].hash()))
    broken(LINES, 5, AuditHead(sequence=5, hash=GENESIS))


def test_first_record_must_follow_the_genesis() -> None:
    broken([dataclasses.replace(RECORDS[0], previous="1" * 64).encode()], 1, None)
    broken([LINES[1]], 1, None)
