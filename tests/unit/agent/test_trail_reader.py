# SPDX-License-Identifier: Apache-2.0
"""A trail is read piece by piece while it grows, and selected from, without believing what does not follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import trail_reader
from agent.audit import AuditTrail, records, trail_path
from agent.audit_selection import Selection, exported, seconds
from agent.trail_reader import TrailReader
from documents.audit import AuditBroken, AuditHead

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    """Of seven records, one each 100 seconds."""
    times = iter(range(1_000, 2_000, 100))
    trail = AuditTrail(tmp_path, lambda: next(times), BOOT)
    for number in range(7):
        trail.append(
            "vm-start" if number % 2 else "vm-stop", "done" if number else "refused", f"guest{number}", "uid 0"
        )
    return trail


@pytest.mark.parametrize("chunk", [600, 1_000, 1_000_000])
@pytest.mark.parametrize("after", range(9))
def test_a_reader_goes_on_from_anywhere(
    tmp_path: Path, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch, chunk: int, after: int
) -> None:
    monkeypatch.setattr(trail_reader, "CHUNK", chunk)
    reader = TrailReader(tmp_path)
    reader.go_after(after)
    assert reader.at.sequence == min(after, 7) or (after > 7 and reader.at == AuditHead())
    found = []
    while more := reader.read(2):
        assert len(more) <= 2
        found += more
    assert [record.sequence for record in found] == list(range(after + 1, 8))
    assert reader.ended()
    if after <= 7:
        trail.append("vm-start", "done", "guest", "uid 0")
        assert [record.sequence for record in reader.read(9)] == [8]


def test_a_reader_waits_for_the_end_of_a_record(tmp_path: Path, trail: AuditTrail) -> None:
    reader = TrailReader(tmp_path)
    reader.go_after(7)
    whole = trail_path(tmp_path).read_bytes()
    trail.append("vm-start", "done", "guest", "uid 0")
    grown = trail_path(tmp_path).read_bytes()
    trail_path(tmp_path).write_bytes(grown[: len(whole) + 50])
    assert reader.ended()
    assert reader.read(9) == []
    trail_path(tmp_path).write_bytes(grown)
    assert [record.sequence for record in reader.read(9)] == [8]


def test_a_reader_of_nothing(tmp_path: Path) -> None:
    reader = TrailReader(tmp_path / "nowhere")
    reader.go_after(3)
    assert (reader.read(9), reader.at, reader.ended()) == ([], AuditHead(), True)


@pytest.mark.parametrize("line", [2, 3])
def test_what_does_not_follow_is_named(tmp_path: Path, trail: AuditTrail, line: int) -> None:
    lines = trail_path(tmp_path).read_bytes().splitlines(keepends=True)
    assert trail.head.sequence == 7
    trail_path(tmp_path).write_bytes(b"".join(lines[: line - 1] + lines[line:]))
    reader = TrailReader(tmp_path)
    reader.go_after(line - 1)
    with pytest.raises(AuditBroken, match=f"broken at record {line};"):
        reader.read(9)
    with pytest.raises(AuditBroken):
        TrailReader(tmp_path).go_after(line)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [1, 2, 3, 4, 5, 6, 7]),
        (Selection(event="vm-start"), [2, 4, 6]),
        (Selection(outcome="refused"), [1]),
        (Selection(subject="guest3"), [4]),
        (Selection(since=1_200, until=1_400), [3, 4]),
        (Selection(first=3, last=5, event="vm-stop"), [3, 5]),
        (Selection(event="nothing"), []),
    ],
)
def test_a_selection(tmp_path: Path, trail: AuditTrail, selection: Selection, expected: list[int]) -> None:
    assert trail.head.sequence == 7
    assert [record.sequence for record in selection.chosen(records(tmp_path))] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1970-01-02", 86_400), ("1970-01-01T00:01:02Z", 62), ("2026-11-26", 1_795_651_200)],
)
def test_a_time(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01", "2026-11-26T04:05:06", "2026-11-26 04:05:06Z", "1", "\u0661970-01-01"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def test_what_is_exported_is_what_the_trail_has(tmp_path: Path, trail: AuditTrail) -> None:
    found = list(records(tmp_path))
    assert trail.head.hash == found[-1].hash()
    assert b"\n".join(exported(found, None, "json", "desk")) + b"\n" == trail_path(tmp_path).read_bytes()
    first = next(exported(found, None, "syslog", "desk"))
    assert first.startswith(b"<108>1 1970-01-01T00:16:40Z desk vmgate - vm-stop [vmgate@32473 ")
    assert first.endswith(found[0].encode())
