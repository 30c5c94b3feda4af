# SPDX-License-Identifier: Apache-2.0
"""Boot logs: what is written is read, the replay is the TPM's arithmetic, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import event_logs as write
from measure import bootlog
from measure.bootlog import BootEvent, BootLog, parse_boot_log, replay
from measure.errors import LogRefused

BANKS = ("sha1", "sha256", "sha384", "sha512")
TWO = ("sha1", "sha256")


def extended(alg: str, start: bytes, *digests: bytes) -> bytes:
    """What the TPM holds: straight from TPM 2.0 Library part 1, clause 17."""
    value = start
    for digest in digests:
        value = hashlib.new(alg, value + digest).digest()
    return value


def zero(alg: str) -> bytes:
    return bytes(write.SIZE[alg])


# What a log may say


def test_a_crypto_agile_log_replays_to_what_a_tpm_computes() -> None:
    untrusted = (
        write.header(TWO)
        + write.measured(0, write.S_CRTM_VERSION, b"firmware", TWO)
        + write.measured(7, 0x80000001, b"SecureBoot", TWO)
        + write.event2(0, write.NO_ACTION, {"sha1": bytes(20), "sha256": bytes(32)}, b"SP800-155 Event3")
        + write.measured(0, write.SEPARATOR, bytes(4), TWO)
    )
    log = parse_boot_log(untrusted)
    assert (log.crypto_agile, log.banks, log.pcr0_start, len(log.events)) == (True, TWO, None, 5)
    for alg in TWO:
        firmware, secure_boot, separator = (
            hashlib.new(alg, d).digest() for d in (b"firmware", b"SecureBoot", bytes(4))
        )
        assert replay(log)[alg] == {
            0: extended(alg, zero(alg), firmware, separator),
            7: extended(alg, zero(alg), secure_boot),
        }


def test_only_the_banks_that_are_asked_for_are_replayed() -> None:
    log = parse_boot_log(write.header(TWO) + write.measured(1, write.SEPARATOR, bytes(4), TWO))
    assert replay(log, ("sha256",)) == {"sha256": replay(log)["sha256"]}
    assert replay(log, ("sha384",)) == {}
    assert replay(log, ()) == {}


def test_a_sha1_log_has_one_bank() -> None:
    digests = [hashlib.sha1(bytes([n])).digest() for n in range(3)]
    log = parse_boot_log(b"".join(write.sha1_event(4, write.SEPARATOR, d, b"data") for d in digests))
    assert (log.crypto_agile, log.banks) == (False, ("sha1",))
    assert replay(log) == {"sha1": {4: extended("sha1", bytes(20), *digests)}}


@pytest.mark.parametrize("signature", [b"Spec ID Event00\0", b"Spec ID Event02\0"])
def test_the_header_of_an_older_specification_leaves_the_log_in_its_sha1_form(signature: bytes) -> None:
    first = write.sha1_event(0, write.NO_ACTION, bytes(20), signature + bytes(9))
    log = parse_boot_log(first + write.sha1_event(1, write.SEPARATOR, b"d" * 20, b""))
    assert not log.crypto_agile
    assert replay(log) == {"sha1": {1: extended("sha1", bytes(20), b"d" * 20)}}


def test_a_spec_id_in_an_event_that_is_extended_is_no_header() -> None:
    log = parse_boot_log(write.sha1_event(0, write.SEPARATOR, b"d" * 20, write.spec_id(TWO)))
    assert not log.crypto_agile


def test_digests_may_stand_in_any_order() -> None:
    digests = {"sha256": b"b" * 32, "sha1": b"a" * 20}
    log = parse_boot_log(write.header(TWO) + write.event2(1, write.SEPARATOR, digests, b""))
    assert replay(log) == {alg: {1: extended(alg, zero(alg), digests[alg])} for alg in TWO}


def test_a_bank_that_nobody_can_compute_is_read_over() -> None:
    first = write.sha1_event(0, write.NO_ACTION, bytes(20), write.spec_id_of([(0x000B, 32), (0x0012, 32)]))
    event = write.event2(1, write.SEPARATOR, {"sha256": b"d" * 32}, b"")
    event = event[:8] + b"\2" + event[9:46] + b"\x12\0" + b"s" * 32 + event[46:]
    log = parse_boot_log(first + event)
    assert log.banks == ("sha256", "0x0012")
    assert log.events[1].digests == {"sha256": b"d" * 32, "0x0012": b"s" * 32}
    assert replay(log) == {"sha256": {1: extended("sha256", bytes(32), b"d" * 32)}}


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
@pytest.mark.parametrize("length", [1, 31, 65_536])
def test_padding_ends_the_log(padding: bytes, length: int) -> None:
    untrusted = write.header(("sha384",)) + write.measured(1, write.SEPARATOR, bytes(4), ("sha384",))
    assert parse_boot_log(untrusted + padding * length) == parse_boot_log(untrusted)


def test_data_of_the_last_event_that_looks_like_padding_is_data() -> None:
    for data in (bytes(40), b"\xff" * 40):
        log = parse_boot_log(write.header(TWO) + write.measured(1, write.SEPARATOR, data, TWO) + bytes(100))
        assert log.events[-1].data == data


def test_events_behind_padding_are_not_skipped() -> None:
    untrusted = write.header(TWO) + bytes(100) + write.measured(1, write.SEPARATOR, b"x", TWO)
    with pytest.raises(LogRefused, match="0 digests"):
        parse_boot_log(untrusted)


# Where PCR 0 starts


@pytest.mark.parametrize("locality", [0, 3, 4])
@pytest.mark.parametrize("late", [False, True])
def test_pcr_0_starts_where_the_log_says(locality: int, late: bool) -> None:
    told = write.event2(0, write.NO_ACTION, {"sha1": bytes(20), "sha256": bytes(32)}, write.startup_locality(locality))
    crtm = write.measured(0, write.S_CRTM_VERSION, b"crtm", TWO)
    log = parse_boot_log(write.header(TWO) + (crtm + told if late else told + crtm))
    assert log.pcr0_start == locality
    for alg in TWO:
        start = zero(alg)[:-1] + bytes([locality])
        assert replay(log)[alg] == {0: extended(alg, start, hashlib.new(alg, b"crtm").digest())}


def test_a_log_of_nothing_but_a_locality_tells_pcr_0() -> None:
    log = parse_boot_log(write.sha1_event(0, write.NO_ACTION, bytes(20), write.startup_locality(3)))
    assert replay(log) == {"sha1": {0: bytes(19) + b"\3"}}


def test_what_hardware_measured_first_starts_pcr_0_at_four() -> None:
    hcrtm = write.measured(0, write.HCRTM, b"HCRTM", TWO)
    log = parse_boot_log(write.header(TWO) + hcrtm)
    assert log.pcr0_start == 4
    digest = hashlib.sha256(b"HCRTM").digest()
    assert replay(log)["sha256"] == {0: extended("sha256", bytes(31) + b"\4", digest)}


def test_only_the_first_extend_of_pcr_0_can_be_by_hardware() -> None:
    crtm, hcrtm = (write.measured(0, kind, b"x", TWO) for kind in (write.S_CRTM_VERSION, write.HCRTM))
    assert parse_boot_log(write.header(TWO) + crtm + hcrtm).pcr0_start is None


def test_a_locality_of_another_pcr_says_nothing() -> None:
    log = parse_boot_log(write.sha1_event(1, write.NO_ACTION, bytes(20), write.startup_locality(3)))
    assert log.pcr0_start is None
    assert replay(log) == {"sha1": {}}


@pytest.mark.parametrize(
    "data", [write.startup_locality(1), write.startup_locality(255), b"StartupLocality\0", b"StartupLocality\0\3\0"]
)
def test_a_malformed_locality_is_refused(data: bytes) -> None:
    with pytest.raises(LogRefused, match="StartupLocality"):
        parse_boot_log(write.sha1_event(0, write.NO_ACTION, bytes(20), data))


def test_two_localities_are_refused() -> None:
    told = [write.sha1_event(0, write.NO_ACTION, bytes(20), write.startup_locality(n)) for n in (0, 3)]
    with pytest.raises(LogRefused, match="contradict"):
        parse_boot_log(b"".join(told))
    assert parse_boot_log(told[1] * 2).pcr0_start == 3


# What is refused


def spec_id_event(data: bytes) -> bytes:
    return write.sha1_event(0, write.NO_ACTION, bytes(20), data)


@pytest.mark.parametrize(
    ("untrusted", "cause"),
    [
        (b"", "empty"),
        (bytes(64), "padding"),
        (b"\xff" * 4096, "padding"),
        (write.sha1_event(24, write.SEPARATOR, bytes(20), b""), "PCR 24"),
        (write.header(TWO) + write.measured(0xFFFFFFFF, write.SEPARATOR, b"x", TWO), "PCR 4294967295"),
        (write.header(TWO) + write.measured(1, write.SEPARATOR, b"x", ("sha1",)), "1 digests"),
        (write.header(TWO) + write.measured(1, write.SEPARATOR, b"x", ("sha1", "sha384")), "0x000c"),
        (write.header(("sha1",)) + write.measured(1, write.SEPARATOR, b"x", TWO), "2 digests"),
        (spec_id_event(write.spec_id_of([])), "0 banks"),
        (spec_id_event(write.spec_id_of([(0x000B, 32)] * 17)), "17 banks"),
        (spec_id_event(write.spec_id_of([(0x000B, 32)] * 2)), "twice"),
        (spec_id_event(write.spec_id_of([(0x000B, 20)])), "digests of 20 bytes"),
        (spec_id_event(write.spec_id_of([(0x000B, 32), (0x0012, 0)])), "digests of 0 bytes"),
        (spec_id_event(write.spec_id_of([(0x000B, 32), (0x0012, 65)])), "digests of 65 bytes"),
        (spec_id_event(write.spec_id_of([(0x0012, 32)])), "no bank that can be replayed"),
        (spec_id_event(write.spec_id(TWO) + b"x"), "follow its last field"),
        (spec_id_event(write.spec_id(TWO, vendor=b"vendor")[:-1]), "6 bytes should follow"),
    ],
)
def test_what_is_not_a_boot_log_is_refused(untrusted: bytes, cause: str) -> None:
    with pytest.raises(LogRefused) as refused:
        parse_boot_log(untrusted)
    assert cause in refused.value.cause


def test_a_repeated_digest_cannot_stand_in_for_a_missing_bank() -> None:
    event = write.event2(1, write.SEPARATOR, {"sha1": b"a" * 20}, b"")
    doubled = event[:8] + b"\2" + event[9:12] + event[12:34] * 2 + event[34:]
    with pytest.raises(LogRefused, match="two digests for sha1"):
        parse_boot_log(write.header(TWO) + doubled)


def test_an_event_that_informs_may_name_any_pcr() -> None:
    log = parse_boot_log(
        write.header(("sha256",)) + write.event2(0xFFFFFFFF, write.NO_ACTION, {"sha256": bytes(32)}, b"any")
    )
    assert replay(log) == {"sha256": {}}


def test_a_forged_length_is_refused_before_anything_is_allocated() -> None:
    honest = write.header(TWO) + write.measured(1, write.SEPARATOR, b"", TWO)
    forged = [
        honest[:-4] + b"\xff\xff\xff\xff",
        write.sha1_event(0, write.NO_ACTION, bytes(20), b"")[:-4] + b"\xf0\xff\xff\xff",
        write.header(TWO) + (1).to_bytes(4, "little") * 2 + b"\xff\xff\xff\x7f",
    ]
    tracemalloc.start()
    try:
        for untrusted in forged:
            with pytest.raises(LogRefused):
                parse_boot_log(untrusted)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_log_over_the_bound_is_refused_unread() -> None:
    event = write.sha1_event(1, write.SEPARATOR, bytes(20), b"")
    with pytest.raises(LogRefused, match="the bound is"):
        parse_boot_log(bytes(bootlog.BOUNDS.octets + 1))
    with pytest.raises(LogRefused, match="more than 100000 events"):
        parse_boot_log(event * bootlog.BOUNDS.events + b"x" * 32)


# Properties


def events(banks: tuple[str, ...]) -> st.SearchStrategy[BootEvent]:
    kinds = st.integers(0, 2**32 - 1).filter(lambda kind: kind not in {write.NO_ACTION, write.HCRTM})
    return st.builds(
        BootEvent,
        pcr=st.integers(0, 23),
        type=kinds | st.just(write.NO_ACTION),
        digests=st.fixed_dictionaries(
            {alg: st.binary(min_size=write.SIZE[alg], max_size=write.SIZE[alg]) for alg in banks}
        ),
        data=st.binary(max_size=64).filter(lambda data: not data.startswith(b"StartupLocality\0")),
    )


def agile_logs() -> st.SearchStrategy[tuple[tuple[str, ...], list[BootEvent], bytes]]:
    banks = st.lists(st.sampled_from(BANKS), min_size=1, unique=True).map(tuple)
    return banks.flatmap(lambda chosen: st.tuples(st.just(chosen), st.lists(events(chosen)), st.binary(max_size=255)))


def write_agile(banks: tuple[str, ...], body: list[BootEvent], vendor: bytes) -> bytes:
    return write.header(banks, vendor=vendor) + b"".join(write.event2(e.pcr, e.type, e.digests, e.data) for e in body)


@given(agile_logs())
def test_what_is_written_is_read(written: tuple[tuple[str, ...], list[BootEvent], bytes]) -> None:
    banks, body, vendor = written
    first = BootEvent(
        pcr=0, type=write.NO_ACTION, digests={"sha1": bytes(20)}, data=write.spec_id(banks, vendor=vendor)
    )
    log = parse_boot_log(write_agile(*written))
    assert log == BootLog(crypto_agile=True, banks=banks, pcr0_start=None, events=(first, *body))
    for alg in banks:
        for pcr in range(24):
            digests = [e.digests[alg] for e in body if e.pcr == pcr and e.type != write.NO_ACTION]
            assert replay(log)[alg].get(pcr) == (extended(alg, zero(alg), *digests) if digests else None)


@given(st.lists(events(("sha1",))))
def test_what_is_written_in_the_sha1_form_is_read(body: list[BootEvent]) -> None:
    # A first event that is no header, and a last that is no padding.
    ends = [BootEvent(pcr=1, type=write.SEPARATOR, digests={"sha1": b"d" * 20}, data=b"data")]
    whole = tuple(ends + body + ends)
    log = parse_boot_log(b"".join(write.sha1_event(e.pcr, e.type, e.digests["sha1"], e.data) for e in whole))
    assert log == BootLog(crypto_agile=False, banks=("sha1",), pcr0_start=None, events=whole)


def story() -> bytes:
    informs = write.event2(0, write.NO_ACTION, {"sha1": bytes(20), "sha256": bytes(32)}, write.startup_locality(3))
    return write.header(TWO, vendor=b"v") + informs + write.measured(0, write.SEPARATOR, b"text", TWO) * 2


def test_a_cut_log_is_refused_or_ends_at_an_event() -> None:
    untrusted = story()
    whole = parse_boot_log(untrusted).events
    for length in range(len(untrusted)):
        try:
            log = parse_boot_log(untrusted[:length])
        except LogRefused:
            continue
        # Only zeros of the next event's index may be left over, which are no different from padding.
        assert log.events == whole[: len(log.events)]
        assert len(log.events) < len(whole)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(story()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_log_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    untrusted = bytearray(story())
    for offset, value in changes:
        untrusted[offset] = value
    read_or_refuse(bytes(untrusted))


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: write.header(TWO) + tail))
def test_noise_is_read_or_refused(untrusted: bytes) -> None:
    read_or_refuse(untrusted)


def read_or_refuse(untrusted: bytes) -> None:
    try:
        log = parse_boot_log(untrusted)
    except LogRefused:
        return
    assert sum(len(event.data) for event in log.events) <= len(untrusted)
    assert replay(log).keys() <= set(log.banks)
