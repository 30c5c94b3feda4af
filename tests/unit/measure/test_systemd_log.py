# SPDX-License-Identifier: Apache-2.0
"""systemd's log: read as systemd writes it, replayed over the boot log, and refused where a record says two things."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import event_logs as write
from measure import systemd_log
from measure.errors import LogRefused
from measure.replay import replay_log
from measure.systemd_log import SystemdRecord, parse_systemd_log, replay

BANKS = ("sha1", "sha256")
WORDS = ("enter-initrd", "leave-initrd", "sysinit", "ready")
PHASES = b"".join(write.systemd_record(11, word, BANKS) for word in WORDS)
MACHINE = write.systemd_record(15, "machine-id:" + "0" * 32, BANKS)
KEY = write.systemd_record(15, "cryptsetup:root:uuid", BANKS, measured=b"the HMAC of a volume key")


def extended(alg: str, value: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        value = hashlib.new(alg, value + digest).digest()
    return value


def hashed(alg: str, *texts: str) -> list[bytes]:
    return [hashlib.new(alg, text.encode()).digest() for text in texts]


def test_phases_are_replayed_in_each_bank() -> None:
    records = parse_systemd_log(PHASES)
    assert [(record.pcr, record.event, record.text, record.proven()) for record in records] == [
        (11, "phase", word, True) for word in WORDS
    ]
    zeros = {alg: bytes(write.SIZE[alg]) for alg in BANKS}
    assert replay(records) == {alg: {11: extended(alg, zeros[alg], *hashed(alg, *WORDS))} for alg in BANKS}


def test_it_goes_on_from_the_values_of_the_boot_log() -> None:
    start = {alg: {11: b"\x11" * write.SIZE[alg], 4: b"\x44" * write.SIZE[alg]} for alg in BANKS}
    found = replay(parse_systemd_log(PHASES + MACHINE), start)
    assert found["sha256"] == {
        11: extended("sha256", b"\x11" * 32, *hashed("sha256", *WORDS)),
        15: extended("sha256", bytes(32), *hashed("sha256", "machine-id:" + "0" * 32)),
    }


def test_a_bank_that_the_boot_log_does_not_have_is_refused() -> None:
    """Its values would start at zero, where the TPM's did not."""
    with pytest.raises(LogRefused, match="bank sha1 and the boot log has not"):
        replay(parse_systemd_log(PHASES), {"sha256": {}})


def test_the_command_replays_it_over_a_boot_log() -> None:
    boot = write.header(BANKS) + write.measured(11, 13, b".linux\0", BANKS)
    found = replay_log(PHASES, boot)
    assert (found.format, found.events) == ("systemd", 4)
    start = extended("sha256", bytes(32), hashlib.sha256(b".linux\0").digest())
    assert found.pcrs["sha256"] == {11: extended("sha256", start, *hashed("sha256", *WORDS))}
    assert replay_log(PHASES).pcrs["sha256"] != found.pcrs["sha256"]
    with pytest.raises(LogRefused, match="only systemd's log"):
        replay_log(boot, boot)


def test_a_text_is_not_always_what_was_measured() -> None:
    (record,) = parse_systemd_log(KEY)
    assert (record.text, record.proven()) == ("cryptsetup:root:uuid", False)
    assert not SystemdRecord(pcr=11, digests={}, event="phase", text="ready").proven()


def test_other_registers_are_read_and_extend_no_pcr() -> None:
    index = write.systemd_record(None, "login:root", ("sha256",))
    rtmr = write.systemd_record(11, "ready", ("sha384",)).replace(b'"pcr":11', b'"rtmr":2,"mapped_pcr":11')
    records = parse_systemd_log(index + PHASES + rtmr + index)
    assert [record.pcr for record in records] == [None, *[11] * 4, None, None]
    assert replay(records) == replay(parse_systemd_log(PHASES))


def test_what_a_newer_systemd_writes_is_read_over() -> None:
    newer = write.systemd_record(11, "ready", BANKS, recnum=7, vendor={"a": [1, None, True]})
    assert parse_systemd_log(newer) == parse_systemd_log(write.systemd_record(11, "ready", BANKS))
    other = write.systemd_record(11, "ready", BANKS, content_type="pcclient_std", content="any")
    assert (parse_systemd_log(other)[0].event, parse_systemd_log(other)[0].text) == ("", "")


def test_a_bank_that_nobody_can_compute_is_read_over() -> None:
    sm3 = json.dumps({"hashAlg": "sm3_256", "digest": "ab" * 32}).encode()
    both = write.systemd_record(11, "ready").replace(b'"digests":[', b'"digests":[' + sm3 + b",")
    assert parse_systemd_log(both) == parse_systemd_log(write.systemd_record(11, "ready"))


RECORD = json.loads(PHASES[1:].split(b"\x1e")[0])


def changed(**members: Any) -> bytes:
    return b"\x1e" + json.dumps({**RECORD, **members}).encode() + b"\n"


def digests(*pairs: tuple[Any, Any]) -> bytes:
    return changed(digests=[{"hashAlg": alg, "digest": digest} for alg, digest in pairs])


@pytest.mark.parametrize(
    ("untrusted", "cause"),
    [
        (b"", "empty"),
        (PHASES[1:], "0x1e"),
        (b"\n" + PHASES, "0x1e"),
        (b"\x1e", "end is missing"),
        (b"\x1e" + PHASES, "record 0: its end is missing"),
        (PHASES[:-1], "record 3: its end is missing"),
        (PHASES + b"\x1e", "record 4"),
        (b"\x1e\n", "not JSON"),
        (b"\x1e{}{}\n", "not JSON"),
        (b"\x1e\xff\n", "not JSON in UTF-8"),
        (b"\x1e[]\n", "not an object"),
        (b"\x1e" + b"[" * 5_000 + b"]" * 5_000 + b"\n", "nested too deeply"),
        (b"\x1e" + b" " * 70_000 + b"{}\n", "more than 65536 bytes"),
        (changed(pcr=24), "register"),
        (changed(pcr=-1), "register"),
        (changed(pcr=True), "register"),
        (changed(pcr="11"), "register"),
        (changed(pcr=1.0), "is no integer"),
        (changed(pcr=float("inf")), "is no integer"),
        (changed(pcr=10**30), "too long"),
        (changed(nv_index=1), "names no register, or two"),
        (changed().replace(b'"pcr"', b'"PCR"'), "names no register, or two"),
        (changed().replace(b'"pcr"', b'"pcr": 12, "pcr"'), "twice"),
        (digests(), "none, too many"),
        (changed(digests={}), "none, too many"),
        (changed(digests=[1]), "not an object"),
        (digests(*(("sm3_256", "00"),) * 17), "too many"),
        (digests(("sha256", "00" * 32), ("sha256", "00" * 32)), "second time"),
        (digests(("sm3_256", "00" * 32), ("sm3_256", "00" * 32)), "second time"),
        (digests(("", "00")), "names no bank"),
        (digests((11, "00")), "not a text"),
        (digests(("sha256", None)), "not a text"),
        (digests(("sha256", "00" * 31)), "bank's size"),
        (digests(("sha256", "00" * 33)), "bank's size"),
        (digests(("sha256", "00 " * 32)), "not hexadecimal"),
        (digests(("sha256", "zz" * 32)), "hexadecimal"),
        (digests(("sm3_256", "00" * 32)), "no bank that can be replayed"),
        (changed(content="phase"), "not an object"),
        (changed(content={"string": 1}), "not a text"),
        (changed(content={"eventType": "p" * 65}), "too long"),
        (PHASES + write.systemd_record(11, "ready", ("sha256",)), "others than the records before"),
        (write.systemd_record(15, "a", ("sha256",)) + PHASES, "others than the records before"),
    ],
)
def test_what_is_not_such_a_log_is_refused(untrusted: bytes, cause: str) -> None:
    with pytest.raises(LogRefused) as refused:
        parse_systemd_log(untrusted)
    assert cause in refused.value.cause
    assert refused.value.line().isprintable()


def test_a_log_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_log, "BOUNDS", systemd_log.Bounds(octets=len(PHASES) + 10, events=4))
    assert len(parse_systemd_log(PHASES)) == 4
    with pytest.raises(LogRefused, match="more than 4 records"):
        parse_systemd_log(PHASES + b"\x1e{}\n")
    with pytest.raises(LogRefused, match="the bound is"):
        parse_systemd_log(PHASES + MACHINE)


def test_a_cut_log_ends_at_a_record_or_is_refused() -> None:
    whole = [at for at in range(1, len(PHASES) + 1) if PHASES[at - 1 : at] == b"\n"]
    for length in range(len(PHASES)):
        if length in whole:
            assert len(parse_systemd_log(PHASES[:length])) == whole.index(length) + 1
        else:
            with pytest.raises(LogRefused):
                parse_systemd_log(PHASES[:length])


def test_no_change_of_a_byte_replays_to_the_same_values_with_another_proven_text() -> None:
    honest = parse_systemd_log(PHASES)
    told = [record.text for record in honest]
    for at in range(len(PHASES)):
        for flip in (0x01, 0x20, 0x80):
            untrusted = PHASES[:at] + bytes([PHASES[at] ^ flip]) + PHASES[at + 1 :]
            try:
                found = parse_systemd_log(untrusted)
            except LogRefused:
                continue
            if replay(found) == replay(honest):
                assert all(record.text == text or not record.proven() for record, text in zip(found, told, strict=True))


# Properties


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, str]], tuple[str, ...]]:
    banks = tuple(draw(st.lists(st.sampled_from(list(write.SIZE)), min_size=1, unique=True)))
    events = draw(
        st.lists(
            st.tuples(st.integers(0, 23), st.text(st.characters(codec="utf-8"), max_size=20)), min_size=1, max_size=8
        )
    )
    return b"".join(write.systemd_record(pcr, text, banks) for pcr, text in events), events, banks


@given(logs())
def test_what_is_written_is_read(log: tuple[bytes, list[tuple[int, str]], tuple[str, ...]]) -> None:
    untrusted, events, banks = log
    records = parse_systemd_log(untrusted)
    assert [(record.pcr, record.text) for record in records] == events
    assert all(record.proven() and set(record.digests) == set(banks) for record in records)
    wanted: dict[str, dict[int, bytes]] = {alg: {} for alg in banks}
    for alg in banks:
        for pcr, text in events:
            start = (b"\xff" if 17 <= pcr <= 22 else b"\0") * write.SIZE[alg]
            wanted[alg][pcr] = extended(alg, wanted[alg].get(pcr, start), *hashed(alg, text))
    assert replay(records) == wanted


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(PHASES) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_log_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    untrusted = bytearray(PHASES)
    for at, value in changes:
        untrusted[at] = value
    read_or_refuse(bytes(untrusted))


@given(
    st.binary(max_size=300).map(lambda tail: b"\x1e" + tail)
    | st.text(max_size=100).map(lambda t: b"\x1e" + t.encode() + b"\n")
)
def test_noise_is_read_or_refused(untrusted: bytes) -> None:
    read_or_refuse(untrusted)


def read_or_refuse(untrusted: bytes) -> None:
    try:
        records = parse_systemd_log(untrusted)
    except LogRefused as error:
        line = error.line()
        assert line.isprintable()
        return
    assert isinstance(replay(records), dict)
