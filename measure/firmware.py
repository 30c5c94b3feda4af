# SPDX-License-Identifier: Apache-2.0
"""Which firmware a host has: by the value of PCR 0, or by what the boot log says went into it, event by event.

A value alone says "another" and no more; it also differs where the same firmware starts the TPM from another locality.
Events say which part differs, and a publisher can vouch for a firmware before any host has it. All events that PCR 0
was extended with take part but the separator, whose content is fixed: the sequence must be one that the host image
names, as a whole. An event's type is covered by no digest and does not take part.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.1 (PCR 0) and 10.4. The caller has compared the log's replay
with the TPM. This module does no I/O.
"""

from __future__ import annotations

import hashlib
from typing import Final

from documents.host_image import FirmwareEvents, HostImage
from documents.verdict import Finding
from measure.boot_files import NOTHING, found_out
from measure.bootlog import EV_NO_ACTION, BootLog

FIRMWARE_PCR: Final = 0
SUBJECT: Final = "pcr/0"
_SEPARATORS: Final = frozenset(hashlib.sha256(content).hexdigest() for content in (bytes(4), b"\xff" * 4))


def firmware_events(log: BootLog) -> tuple[str, ...]:
    """SHA-256 digests, hexadecimal, of what PCR 0 was extended with, in order, without separators."""
    extended = (event for event in log.events if event.pcr == FIRMWARE_PCR and event.type != EV_NO_ACTION)
    digests = (event.digests["sha256"].hex() for event in extended)
    return tuple(digest for digest in digests if digest not in _SEPARATORS)


def firmware_finding(value: str, events: tuple[str, ...], image: HostImage) -> Finding:
    """Compare a host's firmware with what a host image vouches for.

    Args:
        value: of PCR 0 (SHA-256 bank), hexadecimal.
        events: see ``firmware_events``.
        image: the host image.
    """
    if not image.firmware and not image.firmware_events:
        expected = "recorded, no baseline approved"
        return Finding(
            check="firmware", subject=SUBJECT, outcome="warn", expected=expected, found=value, authority="none"
        )
    named = next((known.name for known in image.firmware_events if known.sha256 == events), None)
    if named is not None:
        return found_out("firmware", SUBJECT, f"events of {_names(image)}", f"events of {named}", good=True)
    if value in image.firmware:
        return found_out("firmware", SUBJECT, " or ".join(image.firmware), value, good=True)
    if not image.firmware_events:
        return found_out("firmware", SUBJECT, " or ".join(image.firmware), value, good=False)
    expected = f"events of {_names(image)}" + (", or a value that is named" if image.firmware else "")
    return found_out("firmware", SUBJECT, expected, _difference(events, image.firmware_events), good=False)


def _difference(events: tuple[str, ...], accepted: tuple[FirmwareEvents, ...]) -> str:
    """Where the events leave the firmware that they follow the longest."""
    nearest = max(accepted, key=lambda known: _alike(events, known.sha256))
    at = _alike(events, nearest.sha256)
    expected = nearest.sha256[at] if at < len(nearest.sha256) else NOTHING
    found = events[at] if at < len(events) else NOTHING
    return f"event {at + 1} is {found}, and {nearest.name} has {expected}"


def _alike(events: tuple[str, ...], known: tuple[str, ...]) -> int:
    """How many events are the same from the start on."""
    pairs = enumerate(zip(events, known, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(events), len(known)))


def _names(image: HostImage) -> str:
    return " or ".join(known.name for known in image.firmware_events)
