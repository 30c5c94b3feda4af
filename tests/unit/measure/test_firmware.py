# SPDX-License-Identifier: Apache-2.0
"""Firmware is known by what it extends, event by event: what differs is named, and nothing is left out."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from documents.host_image import FirmwareEvents, HostImage
from documents.verdict import Finding
from lab.boot_logs import MACHINE, POST_CODE, Machine
from lab.boot_logs import event as boot_event
from lab.event_logs import S_CRTM_VERSION
from measure.boot import boot_findings, explain
from measure.bootlog import parse_boot_log
from measure.firmware import firmware_events

BLOB = 0x8000000A
"""EV_EFI_PLATFORM_FIRMWARE_BLOB2."""

WHOLE = replace(
    MACHINE,
    more=(boot_event(0, BLOB, b"volume one"), boot_event(0, POST_CODE, b"ACPI DATA"), boot_event(0, BLOB, b"two")),
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


EVENTS = tuple(sha256(content) for content in (b"firmware 1", b"volume one", b"ACPI DATA", b"two"))
KNOWN = FirmwareEvents(name="board 1.0", sha256=EVENTS)
NEXT = FirmwareEvents(name="board 1.1", sha256=(*EVENTS[:3], sha256(b"three")))


def judged(machine: Machine, *known: FirmwareEvents, values: tuple[str, ...] = ()) -> Finding:
    image: HostImage = replace(machine.image(), firmware=values, firmware_events=known)
    found = explain(machine.boot_log(), machine.ima_list(), machine.matches())
    (finding,) = [finding for finding in boot_findings(found, image) if finding.check == "firmware"]
    return finding


def test_what_a_log_extends_is_listed_without_the_separator() -> None:
    assert firmware_events(parse_boot_log(WHOLE.boot_log())) == EVENTS


@pytest.mark.parametrize("locality", [None, 0, 3])
def test_a_firmware_whose_events_are_named_passes_wherever_it_starts_the_tpm(locality: int | None) -> None:
    finding = judged(replace(WHOLE, locality=locality), NEXT, KNOWN)
    assert (finding.outcome, finding.found) == ("pass", "events of board 1.0")


def test_a_value_counts_beside_events() -> None:
    assert judged(WHOLE, NEXT, values=(WHOLE.pcrs()[0].hex(),)).outcome == "pass"
    assert judged(WHOLE, values=(sha256(b"another"),)).outcome == "fail"
    assert judged(WHOLE).outcome == "warn"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ((BLOB, b"volume one"), "event 3 is nothing, and board 1.0 has"),
        ((BLOB, b"evil"), f"event 2 is {sha256(b'evil')}, and board 1.0 has {EVENTS[1]}"),
    ],
)
def test_the_first_event_that_differs_is_named(more: tuple[int, bytes], text: str) -> None:
    finding = judged(replace(MACHINE, more=(boot_event(0, *more),)), KNOWN)
    assert finding.outcome == "fail"
    assert finding.found.startswith(text)


def test_an_event_besides_and_a_mixture_of_two_firmwares_fail() -> None:
    besides = replace(WHOLE, more=(*WHOLE.more, boot_event(0, S_CRTM_VERSION, b"more")))
    assert judged(besides, KNOWN, NEXT).found.startswith(f"event 5 is {sha256(b'more')}, and board 1.0 has nothing")
    other = FirmwareEvents(name="board 2.0", sha256=(sha256(b"firmware 2"), *EVENTS[1:3], sha256(b"three")))
    half = replace(WHOLE, more=(*WHOLE.more[:2], boot_event(0, BLOB, b"three")))
    assert judged(half, KNOWN, other).outcome == "fail"
    # The register alone would say no more than that.
    assert "event 4" in judged(half, KNOWN, other).found


def test_an_event_that_calls_itself_something_else_still_counts() -> None:
    """No digest covers its type."""
    disguised = replace(WHOLE, more=(*WHOLE.more, boot_event(0, 4, b"no separator")))
    assert judged(disguised, KNOWN).outcome == "fail"
