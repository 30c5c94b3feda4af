# SPDX-License-Identifier: Apache-2.0
"""PCR 7 ahead of its time: on logs that are made up, and on a real machine's. Beside a TPM see ``test_resealing``."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from documents.evidence import Evidence
from documents.host_image import VARIABLES, SecureBootState
from lab.boot_logs import AUTHORITY, DRIVER_CONFIG, MACHINE, Event, Machine, event, variable
from measure.boot import boot_findings, explain
from measure.bootlog import parse_boot_log
from measure.errors import LogRefused, Pcr7Unforeseen
from measure.secure_boot import foreseen, predict
from publisher.secure_boot import variable_data

VECTORS = Path(__file__).parents[2] / "vectors/rig"
LATER = replace(
    MACHINE, variables={**MACHINE.variables, "db": b"more keys", "dbx": b"more refused"}, signature=b"CA of 2026"
)
(STATE,) = LATER.image().secure_boot
NOW = MACHINE.pcrs()[7]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_foreseen_is_what_the_machine_will_measure() -> None:
    assert predict(MACHINE.boot_log(), NOW, STATE) == LATER.pcrs()[7].hex()
    # Events of the machine's own stay: here one of its maker's, before and behind.
    maker = (event(7, DRIVER_CONFIG, b"what the maker measures besides"),)
    first, then = replace(MACHINE, more=maker), replace(LATER, more=maker)
    assert predict(first.boot_log(), first.pcrs()[7], STATE) == then.pcrs()[7].hex()


def test_from_a_state_that_the_image_names_only_later_ones_follow() -> None:
    last = replace(LATER, variables={**LATER.variables, "dbx": b"still more"})
    image = MACHINE.image(announced=(LATER, last))
    values = [machine.pcrs()[7].hex() for machine in (MACHINE, LATER, last)]
    found = [foreseen(m.boot_log(), m.pcrs()[7], image, image) for m in (MACHINE, LATER, last)]
    assert found == [tuple(((7, value),) for value in rest) for rest in (values[1:], values[2:], [])]
    stranger = replace(MACHINE, variables={**MACHINE.variables, "KEK": b"another"})
    assert foreseen(stranger.boot_log(), stranger.pcrs()[7], image, None) == tuple(((7, value),) for value in values)


def test_without_a_word_about_it_nothing_is_foreseen() -> None:
    silent = replace(MACHINE.image(), secure_boot=())
    assert foreseen(b"", NOW, silent, MACHINE.image()) == ()
    assert foreseen(b"", NOW, silent, None) == ()
    with pytest.raises(Pcr7Unforeseen, match="does not say"):
        foreseen(MACHINE.boot_log(), NOW, replace(LATER.image(), secure_boot=()), MACHINE.image())


@pytest.mark.parametrize(
    "more",
    [event(7, AUTHORITY, variable("db", b"of a driver")), event(7, DRIVER_CONFIG, variable("db", b"again"))],
    ids=["two authorities", "db twice"],
)
def test_a_log_with_more_than_is_understood_foresees_nothing(more: Event) -> None:
    machine = replace(MACHINE, more=(more,))
    with pytest.raises(Pcr7Unforeseen, match="measures"):
        predict(machine.boot_log(), machine.pcrs()[7], STATE)


def test_a_text_that_nobody_measured_is_not_believed() -> None:
    """It calls itself db, and its digest is of something else: it stays what it is."""
    more = (event(7, DRIVER_CONFIG, b"something", variable("db", b"else")),)
    machine = replace(MACHINE, more=more)
    assert predict(machine.boot_log(), machine.pcrs()[7], STATE) == replace(LATER, more=more).pcrs()[7].hex()


def test_a_log_that_is_not_of_this_boot_foresees_nothing() -> None:
    for log, present in ((MACHINE.boot_log(), LATER.pcrs()[7]), (LATER.boot_log(), NOW)):
        with pytest.raises(Pcr7Unforeseen, match="does not explain"):
            predict(log, present, STATE)
    for log in (b"", MACHINE.boot_log()[:-3]):
        with pytest.raises(LogRefused):
            predict(log, NOW, STATE)


def test_an_announced_state_is_accepted_as_a_whole_and_no_mixture() -> None:
    image = MACHINE.image(announced=(LATER,))

    def failures(machine: Machine) -> list[tuple[str, str]]:
        booted = explain(machine.boot_log(), machine.ima_list(), machine.matches())
        return [(f.check, f.subject) for f in boot_findings(booted, image) if f.outcome == "fail"]

    assert failures(MACHINE) == failures(LATER) == []
    assert failures(replace(LATER, signature=MACHINE.signature)) == [
        ("secure-boot-variable", "db"),
        ("secure-boot-variable", "dbx"),
    ]
    assert failures(replace(MACHINE, signature=LATER.signature)) == [("secure-boot-authority", "kernel image")]
    assert ("secure-boot", "SecureBoot") in failures(replace(LATER, secure_boot=b"\0"))


class TestCapturedMachine:
    """OVMF with keys of its own, as the rig captured it."""

    LOG = Evidence.parse((VECTORS / "evidence.json").read_bytes()).boot_log
    PRESENT = bytes.fromhex(json.loads((VECTORS / "facts.json").read_bytes())["pcrs"]["7"])

    def events(self) -> list[bytes]:
        """The data of its events of PCR 7: in OVMF's log each is all that was measured."""
        return [found.data for found in parse_boot_log(self.LOG).events if found.pcr == 7]

    def test_the_same_state_gives_the_present_value(self) -> None:
        assert predict(self.LOG, self.PRESENT, self.state({})) == self.PRESENT.hex()

    @pytest.mark.parametrize("name", [*VARIABLES, "authority"])
    def test_another_state_gives_what_a_replay_by_hand_gives(self, name: str) -> None:
        value = bytes(32)
        for data in self.replaced(name):
            value = hashlib.sha256(value + hashlib.sha256(data).digest()).digest()
        new = variable("db" if name == "authority" else name, b"what is announced")
        assert predict(self.LOG, self.PRESENT, self.state({name: digest(new)})) == value.hex() != self.PRESENT.hex()

    def test_the_publisher_computes_what_ovmf_measured(self) -> None:
        for name, data in zip(("PK", "KEK", "db", "dbx"), self.pairs()[1:5], strict=True):
            assert variable_data(name, data[32 + 2 * len(name) :]) == data
        assert variable_data("db", self.pairs()[5][32 + 4 :]) == self.pairs()[5]

    def state(self, changed: dict[str, str]) -> SecureBootState:
        names = [data[32 : 32 + 2 * struct.unpack("<Q", data[16:24])[0]].decode("utf-16-le") for data in self.pairs()]
        events = {name: digest(data) for name, data in zip(names[:-1], self.pairs()[:-1], strict=True)}
        events["authority"] = digest(self.pairs()[-1])
        events |= changed
        return SecureBootState(
            variables=tuple((name, "00" * 32, events[name]) for name in VARIABLES),
            authority="00" * 32,
            authority_event=events["authority"],
        )

    def pairs(self) -> list[bytes]:
        """SecureBoot, PK, KEK, db, dbx and the authority: all but the separator."""
        found = [data for data in self.events() if len(data) > 4]
        assert len(found) == 6
        return found

    def replaced(self, name: str) -> list[bytes]:
        at = {"PK": 1, "KEK": 2, "db": 3, "dbx": 4, "authority": 5}[name]
        old = self.pairs()[at]
        new = variable("db" if name == "authority" else name, b"what is announced")
        return [new if data == old else data for data in self.events()]


def test_a_byte_that_was_changed_is_noticed_or_says_nothing() -> None:
    """Of each record of the log: refused, or the value is the same, since no digest covers an event's text."""
    log, good = MACHINE.boot_log(), LATER.pcrs()[7].hex()
    for at in range(len(log)):
        untrusted = log[:at] + bytes([log[at] ^ 0x41]) + log[at + 1 :]
        try:
            found = predict(untrusted, NOW, STATE)
        except (LogRefused, Pcr7Unforeseen):
            continue
        assert found == good, at
