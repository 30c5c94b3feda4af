# SPDX-License-Identifier: Apache-2.0
"""Evidence of hosts that were never there: a quote made on paper, and the logs that explain it, or do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from documents.event import MeasuredEvent
from documents.evidence import Evidence
from lab.boot_logs import Machine
from lab.measuring import digest, launch, local, logged
from lab.paper_tpm import EccAk, attest
from measure.cel import encode_record, replay
from measure.verifying import Known

NONCE = b"a nonce of at least sixteen bytes"
AK = EccAk().public
NOW = 1_800_000_000
KNOWN = Known(ak=AK, nonce=NONCE)
Events = list[tuple[int, MeasuredEvent]]


def boot(number: int) -> Events:
    """What names a boot in the log."""
    return [launch("host", "host/boot", digest(f"boot {number}"))]


def evidence(
    events: Iterable[tuple[int, MeasuredEvent]],
    machine: Machine | None = None,
    *,
    nonce: bytes = NONCE,
    counters: tuple[int, int, int] = (5000, 3, 1),
    told: Iterable[tuple[int, MeasuredEvent]] | None = None,
    **changes: Any,
) -> Evidence:
    """Evidence of a host that measured these events, and booted this machine.

    Args:
        events: that its TPM was extended with.
        machine: None for a host without logs of what ran before vmgate.
        nonce: that it answers.
        counters: clock, resets and restarts of its TPM.
        told: the events that its log tells; the true ones without.
        changes: other members.
    """
    events = list(events)
    told = events if told is None else list(told)
    before = {index: value for index, value in machine.pcrs().items() if index < 12} if machine else {}
    message = attest(nonce, {"sha256": {**before, **replay(logged(events), "sha256")}}, counters=counters)
    base = Evidence(
        attest=message,
        signature=EccAk().sign(message),
        ak=AK,
        boot_log=machine.boot_log() if machine else b"",
        ima=machine.ima_list() if machine else b"",
        cel=b"".join(encode_record(entry) for entry in logged(told)),
    )
    return replace(base, **changes)


def verified(machine: Machine, events: Events) -> Events:
    """The events of a host that booted this machine's root."""
    return [*events, *local(machine)]
