# SPDX-License-Identifier: Apache-2.0
"""One replay for all logs: the form is found, the result has one shape, and no log is taken for another."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.event import MeasuredEvent
from lab import event_logs as write
from measure import cel
from measure.errors import LogRefused
from measure.replay import CCEL, CEL_JSON, FORMATS, TCG_CRYPTO_AGILE, Replayed, replay_ima, replay_log

PRINTED = b"sha1:" + b"64" * 20
HASHED = write.ima_data(b"sha1:\0" + b"d" * 20, b"/init\0")


def hexed(alg: str, *digests: bytes, start: bytes | None = None) -> str:
    value = bytes(write.SIZE[alg]) if start is None else start
    for digest in digests:
        value = hashlib.new(alg, value + digest).digest()
    return value.hex()


def cel_log(*events: tuple[int, str], banks: tuple[str, ...] = ("sha1", "sha256")) -> bytes:
    return b"".join(
        cel.encode_record(cel.record(number, pcr, event_of(subject), banks))
        for number, (pcr, subject) in enumerate(events)
    )


def event_of(subject: str) -> MeasuredEvent:
    return MeasuredEvent(event="component", subject=subject, fsverity="ab" * 32)


def test_a_sha1_boot_log() -> None:
    events = [write.sha1_event(pcr, write.SEPARATOR, b"d" * 20, b"data") for pcr in (10, 2, 2)]
    assert replay_log(b"".join(events)).members() == {
        "format": "tcg-sha1",
        "events": 3,
        "pcrs": {"sha1": {"2": hexed("sha1", b"d" * 20, b"d" * 20), "10": hexed("sha1", b"d" * 20)}},
        "quirks": ["sha1-format"],
    }


def test_a_crypto_agile_boot_log_with_a_locality() -> None:
    banks = ("sha1", "sha256")
    told = write.event2(0, write.NO_ACTION, {"sha1": bytes(20), "sha256": bytes(32)}, write.startup_locality(3))
    separator = write.measured(7, write.SEPARATOR, bytes(4), banks)
    assert replay_log(write.header(banks) + told + separator).members() == {
        "format": "tcg-crypto-agile",
        "events": 3,
        "pcrs": {
            alg: {
                "0": "00" * (write.SIZE[alg] - 1) + "03",
                "7": hexed(alg, hashlib.new(alg, bytes(4)).digest()),
            }
            for alg in banks
        },
        "quirks": ["startup-locality"],
    }


@pytest.mark.parametrize("padding", [b"", bytes(65_536), b"\xff" * 65_536])
def test_the_log_of_a_confidential_guest(padding: bytes) -> None:
    events = [write.measured(index, write.SEPARATOR, bytes(4), ("sha384",)) for index in (1, 2)]
    found = replay_log(write.header(("sha384",)) + b"".join(events) + padding)
    separator = hexed("sha384", hashlib.sha384(bytes(4)).digest())
    quirks = {"quirks": ["padding"]} if padding else {}
    pcrs = {"sha384": {"1": separator, "2": separator}}
    assert found.members() == {"format": "ccel", "events": 3, "pcrs": pcrs, **quirks}


@pytest.mark.parametrize(
    ("banks", "indices", "form"),
    [
        (("sha384",), (0, 4), CCEL),
        (("sha384",), (1, 7), TCG_CRYPTO_AGILE),
        (("sha256",), (1, 2), TCG_CRYPTO_AGILE),
        (("sha256", "sha384"), (1, 2), TCG_CRYPTO_AGILE),
        (("sha384",), (), TCG_CRYPTO_AGILE),
    ],
)
def test_a_boot_log_is_not_taken_for_a_ccel(banks: tuple[str, ...], indices: tuple[int, ...], form: str) -> None:
    events = [write.measured(index, write.SEPARATOR, bytes(4), banks) for index in indices]
    assert replay_log(write.header(banks) + b"".join(events)).format == form


def test_our_own_log() -> None:
    found = replay_log(cel_log((13, "repository"), (13, "vmm/host-files")))
    contents = [event_of(subject).encode() for subject in ("repository", "vmm/host-files")]
    assert found.members() == {
        "format": "cel-json",
        "events": 2,
        "pcrs": {
            alg: {"13": hexed(alg, *(hashlib.new(alg, content).digest() for content in contents))}
            for alg in ("sha1", "sha256")
        },
    }


def test_of_our_own_log_too_only_what_was_extended_is_told() -> None:
    assert replay_log(cel_log((12, "host"), banks=("sha256",))).pcrs.keys() == {"sha256"}
    assert replay_log(cel_log((12, "host"), banks=("sha256",))).pcrs["sha256"].keys() == {12}
    assert replay_log(cel_log((12, "host"), (13, "repository"))).pcrs["sha1"].keys() == {12, 13}


def test_an_ima_list_in_both_forms() -> None:
    binary = replay_ima(write.ima_binary(10, b"ima-ng", HASHED))
    text = replay_ima(write.ima_ascii(10, b"ima-ng", HASHED, PRINTED, b"/init"))
    assert (binary.format, text.format, binary.events, text.events) == ("ima-binary", "ima-ascii", 1, 1)
    assert binary.pcrs == text.pcrs
    assert text.members()["pcrs"] == {
        alg: {"10": hexed(alg, hashlib.new(alg, HASHED).digest())} for alg in ("sha1", "sha256", "sha384", "sha512")
    }


def test_an_ima_list_is_read_only_when_asked_for() -> None:
    for untrusted in (
        write.ima_binary(10, b"ima-ng", HASHED),
        write.ima_ascii(10, b"ima-ng", HASHED, PRINTED, b"/init"),
    ):
        with pytest.raises(LogRefused):
            replay_log(untrusted)
    for untrusted in (write.header(("sha256",)), cel_log((13, "repository"))):
        with pytest.raises(LogRefused):
            replay_ima(untrusted)


@pytest.mark.parametrize("untrusted", [b"", b"{", b"{}\n", b"{\n", cel_log((13, "repository"))[:-1], bytes(100)])
def test_what_is_no_log_is_refused(untrusted: bytes) -> None:
    with pytest.raises(LogRefused):
        replay_log(untrusted)


@given(st.binary(max_size=200).map(lambda tail: b"{" + tail) | st.binary(max_size=200))
def test_noise_is_replayed_or_refused(untrusted: bytes) -> None:
    for reading in (replay_log, replay_ima):
        try:
            found = reading(untrusted)
        except LogRefused:
            continue
        assert found.format in FORMATS
        assert json.loads(json.dumps(found.members()))["events"] == found.events


@given(st.integers(0, len(cel_log((13, "repository"))) - 1), st.integers(0, 255))
def test_a_damaged_log_of_ours_is_refused(offset: int, value: int) -> None:
    honest = cel_log((13, "repository"))
    untrusted = honest[:offset] + bytes([value]) + honest[offset + 1 :]
    try:
        found = replay_log(untrusted)
    except LogRefused:
        return
    # The index is the one byte that no digest covers; the value of PCR 13 that a quote tells would be missed.
    assert untrusted == honest or found.pcrs["sha256"].keys() == {12}


def test_the_order_of_pcrs_is_by_number() -> None:
    found = Replayed(format=CEL_JSON, events=0, pcrs={"sha256": dict.fromkeys((10, 9, 0), b"")})
    assert json.dumps(found.members()["pcrs"]) == '{"sha256": {"0": "", "9": "", "10": ""}}'
