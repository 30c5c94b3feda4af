# SPDX-License-Identifier: Apache-2.0
"""Quirks of boot logs: each is accepted by name, told, and refused by who does not accept it."""

from __future__ import annotations

import pytest

from lab import event_logs as write
from measure.bootlog import parse_boot_log, replay
from measure.errors import LogRefused
from measure.quirks import QUIRKS

BANKS = ("sha1", "sha256")
SM3 = 0x0012
VERSION = write.measured(0, write.S_CRTM_VERSION, b"firmware 1", BANKS)
PLAIN = write.header(BANKS) + VERSION


def silent(data: bytes, pcr: int = 0) -> bytes:
    return write.event2(pcr, write.NO_ACTION, {alg: bytes(write.SIZE[alg]) for alg in BANKS}, data)


def reversed_digests() -> bytes:
    return write.measured(0, write.S_CRTM_VERSION, b"firmware 1", BANKS[::-1])


def with_sm3() -> bytes:
    """The same event with a digest of a bank that is not known here, as firmware in China writes it."""
    head = write.sha1_event(0, write.NO_ACTION, bytes(20), write.spec_id_of([(0x0004, 20), (0x000B, 32), (SM3, 32)]))
    sm3 = SM3.to_bytes(2, "little") + b"s" * 32
    digests = VERSION[12 : 12 + 2 + 20 + 2 + 32]
    return head + VERSION[:8] + (3).to_bytes(4, "little") + digests + sm3 + VERSION[12 + len(digests) :]


LOGS = {
    "padding": PLAIN + b"\xff" * 10_000,
    "startup-locality": write.header(BANKS) + silent(write.startup_locality(3)) + VERSION,
    "h-crtm": write.header(BANKS) + write.measured(0, write.HCRTM, b"hardware", BANKS) + VERSION,
    "sha1-format": write.sha1_event(0, write.S_CRTM_VERSION, b"d" * 20, b"firmware 1"),
    "unknown-bank": with_sm3(),
    "digest-order": write.header(BANKS) + reversed_digests(),
    "silent-register": PLAIN + silent(b"what Windows tells", 0xFFFFFFFF),
    "sp800-155": PLAIN + silent(write.manifest()),
}


def test_each_quirk_has_a_log_and_a_reason() -> None:
    assert LOGS.keys() == QUIRKS.keys()
    for name, quirk in QUIRKS.items():
        assert quirk.name == name
        assert quirk.accepted
        assert quirk.why


@pytest.mark.parametrize("name", LOGS)
def test_a_quirk_is_told_and_nothing_else(name: str) -> None:
    assert parse_boot_log(LOGS[name]).quirks == (name,)


@pytest.mark.parametrize("name", LOGS)
def test_who_does_not_accept_a_quirk_refuses_the_log(name: str) -> None:
    others = QUIRKS.keys() - {name}
    with pytest.raises(LogRefused) as refused:
        parse_boot_log(LOGS[name], others)
    assert f"({name})" in refused.value.cause
    for other in others:
        assert parse_boot_log(LOGS[other], others).quirks == (other,)


def test_a_log_by_the_book_has_none() -> None:
    assert parse_boot_log(PLAIN, accepted=()).quirks == ()
    locality = write.header(BANKS) + silent(write.startup_locality(0)) + VERSION
    assert parse_boot_log(locality, accepted=()).quirks == ()


@pytest.mark.parametrize("name", ["padding", "unknown-bank", "digest-order", "silent-register", "sp800-155"])
def test_these_quirks_change_no_value(name: str) -> None:
    assert replay(parse_boot_log(LOGS[name])) == replay(parse_boot_log(PLAIN))


def test_several_are_told_in_the_order_of_the_table() -> None:
    log = write.header(BANKS) + silent(write.manifest()) + silent(write.startup_locality(4)) + reversed_digests()
    assert parse_boot_log(log + bytes(9)).quirks == ("padding", "h-crtm", "digest-order", "sp800-155")
