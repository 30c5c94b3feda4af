# SPDX-License-Identifier: Apache-2.0
"""The audit trail on disk: durable before it returns, whole after a power cut, and never silently shorter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import audit
from agent.audit import AuditTrail, read_head, records, trail_path, verify
from content.errors import ContentError
from content.tail import read_from
from documents.audit import AuditBroken, AuditHead
from documents.canonical import encode
from documents.errors import DocumentError
from lab.crash import Operation, crash_points, intercepted

BOOT = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"
OTHER_BOOT = "00000000-0000-4000-8000-000000000000"
TIME = 1_800_000_000


def opened(directory: Path, boot: str = BOOT) -> AuditTrail:
    return AuditTrail(directory, lambda: TIME, boot)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A trail of three records that nobody is writing."""
    directory = tmp_path / "audit"
    trail = opened(directory)
    trail.append("agent-start", "done", "", "init")
    trail.append("vm-start", "started", "guest", "uid 0", check="disk-digest")
    trail.append("vm-start", "refused", "guest", "uid 0", found="aa", expected="bb")
    return directory


def lines(directory: Path) -> list[bytes]:
    return trail_path(directory).read_bytes().splitlines(keepends=True)


def broken(directory: Path, number: int) -> None:
    """Neither a reader nor the agent takes the trail; the record is named and the file is kept as evidence."""
    before = trail_path(directory).read_bytes()
    for attempt in (lambda: verify(directory), lambda: opened(directory)):
        with pytest.raises(AuditBroken, match=f"broken at record {number};"):
            attempt()
        assert trail_path(directory).read_bytes() == before


def test_a_record_says_what_when_who_and_how_it_ended(directory: Path) -> None:
    found = list(records(directory))
    assert [(record.sequence, record.event, record.outcome, record.subject, record.actor) for record in found] == [
        (1, "agent-start", "done", "", "init"),
        (2, "vm-start", "started", "guest", "uid 0"),
        (3, "vm-start", "refused", "guest", "uid 0"),
    ]
    assert found[2].details == (("expected", "bb"), ("found", "aa"))
    assert {(record.time, record.boot) for record in found} == {(TIME, BOOT)}
    assert verify(directory) == AuditHead(sequence=3, hash=found[2].hash())


def test_the_trail_goes_on_after_a_restart(directory: Path) -> None:
    trail = opened(directory, OTHER_BOOT)
    assert trail.head.sequence == 3
    record = trail.append("agent-start", "done", "", "init")
    assert record.sequence == 4
    assert verify(directory) == trail.head == read_head(directory)
    assert [record.boot for record in records(directory)] == [BOOT] * 3 + [OTHER_BOOT]


def test_only_root_reads_the_trail(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_a_new_trail_is_empty_and_sane(tmp_path: Path) -> None:
    assert opened(tmp_path / "audit").head == AuditHead()
    assert verify(tmp_path / "audit") == AuditHead()
    assert verify(tmp_path / "nowhere") == AuditHead()


@pytest.mark.parametrize(
    "rest", [b'{"act', b"{", b"\0" * 400, b'{"actor":"init","boot":"' + BOOT.encode(), b'\0\0"}\n']
)
def test_an_unfinished_last_record_is_dropped(directory: Path, rest: bytes) -> None:
    """A power cut during ``append``: the act that it would have announced did not begin."""
    whole = trail_path(directory).read_bytes()
    with trail_path(directory).open("ab") as stream:
        stream.write(rest)
    trail = opened(directory)
    assert trail_path(directory).read_bytes() == whole
    assert trail.append("agent-start", "done", "", "init").sequence == 4
    assert verify(directory).sequence == 4


def test_changed_record(directory: Path) -> None:
    data = trail_path(directory).read_bytes()
    assert data.count(b'"refused"') == 1
    trail_path(directory).write_bytes(data.replace(b'"refused"', b'"done"'))
    broken(directory, 3)


def test_removed_record(directory: Path) -> None:
    first, _, third = lines(directory)
    trail_path(directory).write_bytes(first + third)
    broken(directory, 2)


def test_reordered_records(directory: Path) -> None:
    first, second, third = lines(directory)
    trail_path(directory).write_bytes(second + first + third)
    broken(directory, 1)


def test_inserted_record(directory: Path) -> None:
    first, second, third = lines(directory)
    trail_path(directory).write_bytes(first + second + second + third)
    broken(directory, 3)


def test_inserted_empty_line(directory: Path) -> None:
    first, second, third = lines(directory)
    trail_path(directory).write_bytes(first + b"\n" + second + third)
    broken(directory, 2)


def test_other_line_end(directory: Path) -> None:
    data = trail_path(directory).read_bytes()
    trail_path(directory).write_bytes(data.replace(b"\n", b"\r", 1))
    broken(directory, 1)


def test_cut_off_record(directory: Path) -> None:
    trail_path(directory).write_bytes(b"".join(lines(directory)[:2]))
    broken(directory, 3)


def test_cut_off_line_end_is_no_excuse_to_drop_a_record(directory: Path) -> None:
    """The head kept apart knows the record, so this was no power cut; the record stays as evidence."""
    trail_path(directory).write_bytes(trail_path(directory).read_bytes()[:-1])
    broken(directory, 3)


def test_emptied_and_removed_trail(directory: Path) -> None:
    trail_path(directory).write_bytes(b"")
    broken(directory, 1)
    trail_path(directory).unlink()
    with pytest.raises(AuditBroken, match="broken at record 1;"):
        opened(directory)
    assert not trail_path(directory).exists()


def test_every_damaged_byte_is_noticed(directory: Path) -> None:
    data = trail_path(directory).read_bytes()
    for where in range(0, len(data), 7):
        trail_path(directory).write_bytes(data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :])
        with pytest.raises(AuditBroken):
            verify(directory)


@pytest.mark.parametrize("untrusted", [b"", b"{}", b"{", b'{"hash":"","sequence":1}', b"x" * 2_000])
def test_damaged_head_is_a_no(directory: Path, untrusted: bytes) -> None:
    (directory / "head.json").write_bytes(untrusted)
    with pytest.raises((DocumentError, ContentError)) as caught:
        opened(directory)
    assert caught.value.line().isprintable()
    assert len(list(records(directory))) == 3


def test_forged_head_is_a_no(directory: Path) -> None:
    (directory / "head.json").write_bytes(encode({"sequence": 3, "hash": "ab" * 32}))
    broken(directory, 3)
    (directory / "head.json").write_bytes(encode({"sequence": 9, "hash": "ab" * 32}))
    broken(directory, 4)


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x1b[2J", "a\0b", "\u202eevil", "a\u200bb", "\ufeff", "\x85", "\udc80", "\u2028", ""]
)
def test_what_others_say_cannot_break_the_trail(directory: Path, text: str) -> None:
    """Control characters would be forged lines, or a trail that its own reader refuses."""
    trail = opened(directory)
    trail.append("vm-start", "refused", text, text, cause=text)
    assert verify(directory) == trail.head
    assert len(lines(directory)) == 4
    *_, record = records(directory)
    assert (record.subject + record.actor + record.details[0][1]).isprintable()


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=30), min_size=3, max_size=3))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    directory = tmp_path_factory.mktemp("audit")
    opened(directory).append("vm-start", "refused", texts[0], texts[1], cause=texts[2])
    assert verify(directory).sequence == 1


@pytest.mark.parametrize("character", ["x", '"', "\\", "\u20ac", "\U0001f512"])
def test_long_texts_are_cut_to_what_can_be_read_again(directory: Path, character: str) -> None:
    trail = opened(directory)
    long = character * 5_000
    trail.append("vm-start", "refused", long, long, **{f"detail{number:02}": long for number in range(32)})
    assert verify(directory) == trail.head
    *_, record = records(directory)
    assert len(record.details) == 32
    assert {text for _, text in record.details} == {character * 1_000}


@pytest.mark.parametrize("event", ["VM start", "", "a\nb"])
def test_a_record_that_could_not_be_read_again_is_not_written(directory: Path, event: str) -> None:
    """The names of events are ours: a wrong one is a bug, and a bug must not spoil the trail."""
    trail = opened(directory)
    before = trail_path(directory).read_bytes()
    with pytest.raises(ValueError, match="cannot be read again"):
        trail.append(event, "done", "", "init")
    assert trail_path(directory).read_bytes() == before
    assert trail.append("vm-stop", "done", "guest", "init").sequence == 4
    assert verify(directory) == trail.head


def test_a_clock_before_1970_does_not_stop_the_audit(tmp_path: Path) -> None:
    AuditTrail(tmp_path / "audit", lambda: -5, BOOT).append("agent-start", "done", "", "init")
    assert [record.time for record in records(tmp_path / "audit")] == [0]


def test_full_disk(directory: Path) -> None:
    """What could not be recorded raises, so it does not happen; the trail goes on when there is room again."""
    trail = opened(directory)
    before = trail_path(directory).read_bytes()

    def full(name: str, real: object, arguments: tuple[object, ...]) -> object:
        if name == "write":
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[operator]

    with intercepted(full), pytest.raises(ContentError):
        trail.append("vm-start", "started", "guest", "uid 0")
    assert trail_path(directory).read_bytes() == before
    assert "No space left" in trail.failure
    assert trail.append("vm-start", "started", "guest", "uid 0").sequence == 5
    assert verify(directory) == trail.head
    assert trail.failure == ""
    *_, told, _ = records(directory)
    assert (told.sequence, told.event, told.outcome) == (4, "audit-failure", "failed")
    details = dict(told.details)
    assert (details["since"], details["unwritten"], details["code"]) == (str(TIME), "1", "CN002")


def test_a_head_that_could_not_be_kept_does_not_spoil_the_trail(directory: Path) -> None:
    trail = opened(directory)

    def no_rename(name: str, real: object, arguments: tuple[object, ...]) -> object:
        if name == "rename":
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[operator]

    with intercepted(no_rename), pytest.raises(ContentError):
        trail.append("vm-start", "started", "guest", "uid 0")
    # The record is there although its act did not begin: a trail may announce more than was done, never less.
    assert trail.append("vm-start", "failed", "guest", "uid 0").sequence == 6
    assert [record.event for record in records(directory)][3:] == ["vm-start", "audit-failure", "vm-start"]
    assert verify(directory) == trail.head


@pytest.mark.parametrize("chunk", [1, 7, 500, 700])
def test_a_trail_is_read_in_pieces_of_any_size(directory: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole, found = trail_path(directory).read_bytes(), list(records(directory))
    monkeypatch.setattr(audit, "read_from", lambda path, offset, limit: read_from(path, offset, min(chunk, limit)))
    assert list(records(directory)) == found
    assert verify(directory).sequence == 3
    with trail_path(directory).open("ab") as stream:
        stream.write(b'{"act\0\0')
    assert opened(directory).head.sequence == 3
    assert trail_path(directory).read_bytes() == whole


def test_what_is_longer_than_any_record_is_no_power_cut(directory: Path) -> None:
    with trail_path(directory).open("ab") as stream:
        stream.write(b"{" * 3_000_000)
    broken(directory, 4)


def test_observers_see_what_is_durable(directory: Path) -> None:
    trail, seen = opened(directory), []
    trail.observers.append(lambda record: seen.append((record, verify(directory).sequence)))
    record = trail.append("vm-start", "done", "guest", "uid 0")
    assert seen == [(record, 4)]


def _three(directory: Path) -> None:
    trail = opened(directory)
    for number in range(3):
        trail.append("vm-start", "done", f"guest{number}", "uid 0")


def _restart_and_add(directory: Path) -> None:
    opened(directory).append("vm-start", "refused", "guest", "uid 0")


def _restart_and_add_twice(directory: Path) -> None:
    trail = opened(directory)
    trail.append("vm-start", "started", "guest", "uid 0")
    trail.append("vm-start", "done", "guest", "uid 0")


def _nothing(directory: Path) -> None:
    """No trail yet."""


@pytest.mark.parametrize(
    ("old", "prepare", "operation"),
    [(0, _nothing, _restart_and_add), (3, _three, _restart_and_add), (3, _three, _restart_and_add_twice)],
)
def test_crash(tmp_path: Path, old: int, prepare: Operation, operation: Operation) -> None:
    """After a crash anywhere the old records are there, each new one is whole or absent, and the trail goes on."""
    new = 2 if operation is _restart_and_add_twice else 1
    count = 0
    for point in crash_points(tmp_path, prepare, operation):
        trail = opened(point.root)
        found = list(records(point.root))
        assert old <= len(found) <= old + new, point.label
        assert not point.finished or len(found) == old + new, point.label
        assert [record.subject for record in found[:old]] == [f"guest{number}" for number in range(old)], point.label
        assert trail.append("agent-start", "done", "", "init").sequence == len(found) + 1, point.label
        assert verify(point.root) == trail.head, point.label
        count += 1
    assert count > 10
