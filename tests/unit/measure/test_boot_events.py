# SPDX-License-Identifier: Apache-2.0
"""Boot events: each is what its digest proves, whatever the log's writer calls it, and the rest is told as unknown."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import boot_logs as lab
from lab import event_logs as write
from lab.boot_logs import MACHINE, Event
from measure.boot_events import BootState, decode
from measure.bootlog import BootLog, parse_boot_log
from measure.errors import LogRefused


def read(*events: Event) -> BootState:
    return decode(parse_boot_log(lab.log_of(events)))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed(where: int, event: Event) -> tuple[Event, ...]:
    """What the machine measures, with another event in one place."""
    events = list(MACHINE.events())
    events[where] = event
    return tuple(events)


def place(pcr: int, kind: int) -> int:
    """Where the machine measures its first event of this kind into this PCR."""
    return next(n for n, event in enumerate(MACHINE.events()) if (event.pcr, event.kind) == (pcr, kind))


SECURE_BOOT = place(7, lab.DRIVER_CONFIG)
SEPARATOR = place(7, write.SEPARATOR)
AUTHORITY = place(7, lab.AUTHORITY)
APPLICATION = place(4, lab.APPLICATION)
SECTION = place(11, lab.IPL)


def test_a_whole_boot_is_told() -> None:
    assert read(*MACHINE.events()) == BootState(
        secure_boot=True,
        variables={name: sha256(data) for name, data in MACHINE.variables.items()},
        authorities=(sha256(MACHINE.signature),),
        applications=(MACHINE.application,),
        places=("",),
        drivers=(sha256(b"driver"),),
        command_lines=(),
        load_options=(sha256((lab.IMAGE.command_line + "\0").encode("utf-16-le")),),
        initrds=(sha256(b"the initrd"),),
        sections=tuple((name, sha256(content)) for name, content in MACHINE.sections),
        manifests=(),
        quirks=(),
        unknown=(),
    )


def test_only_the_sha256_bank_counts() -> None:
    sha1_only = write.sha1_event(4, lab.APPLICATION, b"d" * 20, b"")
    with pytest.raises(LogRefused, match="no SHA-256 bank"):
        decode(parse_boot_log(sha1_only))
    config = replace(lab.event(7, lab.DRIVER_CONFIG, lab.variable("SecureBoot", b"\1")), data=b"other")
    honest_in_sha1 = replace(config, digests={**config.digests, "sha1": hashlib.sha1(b"other").digest()})
    with pytest.raises(LogRefused, match="does not hash to its digest"):
        read(*changed(SECURE_BOOT, honest_in_sha1))


def test_an_event_that_is_never_extended_says_nothing() -> None:
    silent = lab.event(7, write.NO_ACTION, lab.variable("SecureBoot", b"\0"))
    assert read(silent, *MACHINE.events()) == read(*MACHINE.events())


# Secure Boot


@pytest.mark.parametrize(("data", "on"), [(b"\1", True), (b"\0", False), (b"", False)])
def test_secure_boot_is_what_firmware_measured(data: bytes, on: bool) -> None:
    state = read(*replace(MACHINE, secure_boot=data).events())
    assert (state.secure_boot, state.unknown) == (on, ())


@pytest.mark.parametrize("data", [b"\2", b"\1\0", b"\1\1"])
def test_secure_boot_that_is_neither_on_nor_off_is_refused(data: bytes) -> None:
    with pytest.raises(LogRefused, match="neither on nor off"):
        read(*replace(MACHINE, secure_boot=data).events())


def test_secure_boot_that_was_not_measured_is_off() -> None:
    events = MACHINE.events()
    assert not read(*events[:SECURE_BOOT], *events[SECURE_BOOT + 1 :]).secure_boot


def test_a_variable_cannot_be_measured_twice_with_different_data() -> None:
    for name, data in (("SecureBoot", b"\0"), ("db", b"another key")):
        again = lab.event(7, lab.DRIVER_CONFIG, lab.variable(name, data))
        for events in (
            (again, *MACHINE.events()),
            (*MACHINE.events()[:SEPARATOR], again, *MACHINE.events()[SEPARATOR:]),
        ):
            with pytest.raises(LogRefused, match=f"variable {name} is measured twice"):
                read(*events)
    same = lab.event(7, lab.DRIVER_CONFIG, lab.variable("SecureBoot", b"\1"))
    assert read(same, *MACHINE.events()) == read(*MACHINE.events())


def test_a_variable_behind_the_separator_is_unknown() -> None:
    for name, data in (("SecureBoot", b"\1"), ("SecureBoot", b"\0"), ("db", b"another key")):
        late = lab.event(7, lab.DRIVER_CONFIG, lab.variable(name, data))
        state = read(*replace(MACHINE, more=(late,)).events())
        assert len(state.unknown) == 1
        assert state.variables == read(*MACHINE.events()).variables


@pytest.mark.parametrize(
    ("name", "guid"),
    [("dbt", lab.SECURITY), ("SecureBoot", lab.SECURITY), ("db", lab.GLOBAL), ("PK", bytes(16)), ("DB", lab.SECURITY)],
)
def test_a_variable_of_another_name_or_vendor_is_unknown(name: str, guid: bytes) -> None:
    stranger = lab.event(7, lab.DRIVER_CONFIG, lab.variable(name, b"\1", guid))
    state = read(stranger, *MACHINE.events())
    assert len(state.unknown) == 1
    assert "PCR 7, type 0x80000001" in state.unknown[0]
    assert state.variables.keys() == {"PK", "KEK", "db", "dbx"}
    assert not read(*changed(SECURE_BOOT, stranger)).secure_boot


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty"),
        (bytes(16), "8 bytes should follow"),
        (lab.variable("db", b"key")[:-1], "should have 3 bytes and 2 are left"),
        (lab.variable("db", b"key") + b"x", "should have 3 bytes and 4 are left"),
        (lab.SECURITY + b"\0" * 16, "name has 0 characters"),
        (lab.SECURITY + b"\xff" * 16, "name has 18446744073709551615 characters"),
        (lab.SECURITY + b"\x41" + b"\0" * 15, "name has 65 characters"),
        (lab.SECURITY + b"\x40" + b"\0" * 15, "128 bytes should follow"),
        (lab.SECURITY + b"\1" + b"\0" * 15 + b"\0\xd8", "not UTF-16"),
    ],
)
def test_a_malformed_variable_is_refused(data: bytes, cause: str) -> None:
    for where, kind in ((SECURE_BOOT, lab.DRIVER_CONFIG), (AUTHORITY, lab.AUTHORITY)):
        with pytest.raises(LogRefused, match=cause):
            read(*changed(where, lab.event(7, kind, data)))


def test_data_of_a_variable_must_be_what_was_measured() -> None:
    """An attacker writes into the log that Secure Boot was on, or that another key was used."""
    off = lab.event(7, lab.DRIVER_CONFIG, lab.variable("SecureBoot", b"\0"), lab.variable("SecureBoot", b"\1"))
    other = lab.event(7, lab.AUTHORITY, lab.variable("db", b"other"), lab.variable("db", MACHINE.signature))
    for where, event in ((SECURE_BOOT, off), (AUTHORITY, other)):
        with pytest.raises(LogRefused, match="does not hash to its digest"):
            read(*changed(where, event))


def test_each_authority_is_told() -> None:
    second = lab.event(7, lab.AUTHORITY, lab.variable("db", b"second"))
    state = read(*replace(MACHINE, more=(second,)).events())
    assert state.authorities == (sha256(MACHINE.signature), sha256(b"second"))


@pytest.mark.parametrize(("name", "guid"), [("Shim", bytes(16)), ("db", lab.GLOBAL), ("MokList", lab.SECURITY)])
def test_an_authority_that_is_not_in_db_is_unknown(name: str, guid: bytes) -> None:
    shim = lab.event(7, lab.AUTHORITY, lab.variable(name, MACHINE.signature, guid))
    state = read(*changed(AUTHORITY, shim))
    assert (state.authorities, len(state.unknown)) == ((), 1)


def test_an_authority_before_the_separator_is_unknown() -> None:
    early = lab.event(7, lab.AUTHORITY, lab.variable("db", MACHINE.signature))
    assert len(read(early, *MACHINE.events()).unknown) == 1


# Programs


def test_each_program_counts() -> None:
    second = lab.program(4, lab.APPLICATION, sha256(b"second"))
    state = read(*replace(MACHINE, more=(second,)).events())
    assert state.applications == (MACHINE.application, sha256(b"second"))
    driver = lab.program(2, lab.DRIVER, sha256(b"option ROM"))
    assert read(*replace(MACHINE, more=(driver,)).events()).drivers == (sha256(b"driver"), sha256(b"option ROM"))


@pytest.mark.parametrize("action", [lab.CALLING, b"Returning from EFI Application from Boot Option"])
def test_actions_of_the_boot_manager_are_known(action: bytes) -> None:
    again = lab.event(4, lab.ACTION, action)
    assert read(*replace(MACHINE, more=(again,)).events()) == read(*MACHINE.events())


@pytest.mark.parametrize("kind", [lab.ACTION, write.SEPARATOR, lab.DRIVER, lab.IPL, lab.GPT, 0, 0xFFFFFFFF])
def test_a_program_cannot_hide_behind_another_type(kind: int) -> None:
    hidden = replace(lab.program(4, kind, sha256(b"rootkit")), data=lab.CALLING)
    state = read(*replace(MACHINE, more=(hidden,)).events())
    assert len(state.unknown) == 1
    assert sha256(b"rootkit") in state.unknown[0]


# Separators and other events


@pytest.mark.parametrize("pcr", [4, 7])
def test_firmware_ends_its_part_once(pcr: int) -> None:
    events = MACHINE.events()
    where = place(pcr, write.SEPARATOR)
    without = read(*events[:where], *events[where + 1 :])
    assert f"PCR {pcr} has no separator" in without.unknown[-1]
    assert len(read(*replace(MACHINE, more=(events[where],)).events()).unknown) == 1
    assert not read(*changed(where, lab.event(pcr, write.SEPARATOR, b"\xff" * 4))).unknown
    # An error of the firmware, a separator of Windows, and one that only says that it is one.
    for content in (b"\1\0\0\0", b"WBCL", bytes(8)):
        assert read(*changed(where, lab.event(pcr, write.SEPARATOR, content))).unknown
        assert read(*changed(where, lab.event(pcr, write.SEPARATOR, content, bytes(4)))).unknown


@pytest.mark.parametrize("text", [b"DMA Protection Disabled", b"UEFI Debug Mode", lab.CALLING])
def test_an_action_that_weakens_secure_boot_is_told(text: bytes) -> None:
    weak = lab.event(7, lab.ACTION, text)
    for events in ((weak, *MACHINE.events()), replace(MACHINE, more=(weak,)).events()):
        (told,) = read(*events).unknown
        assert f'"{text.decode()}"' in told


def test_a_text_that_was_not_measured_is_not_told() -> None:
    (told,) = read(*replace(MACHINE, more=(lab.event(7, lab.ACTION, b"x", b"All is well"),)).events()).unknown
    assert "well" not in told


@pytest.mark.parametrize("pcr", [4, 7, 8, 9, 11])
def test_unknown_events_are_told_up_to_a_bound(pcr: int) -> None:
    strangers = tuple(lab.event(pcr, lab.POST_CODE, b"%d" % number) for number in range(250))
    state = read(*replace(MACHINE, more=strangers).events())
    assert len(state.unknown) == 101
    assert state.unknown[-1] == "150 more"
    assert sum(map(len, state.unknown)) < 20_000


@pytest.mark.parametrize("pcr", [0, 1, 3, 5, 6, 10, 12, 13, 14, 23])
def test_other_pcrs_are_not_judged_here(pcr: int) -> None:
    stranger = lab.event(pcr, lab.POST_CODE, b"anything")
    assert read(*replace(MACHINE, more=(stranger,)).events()) == read(*MACHINE.events())


# What the kernel was given


def test_what_a_boot_loader_took_for_the_command_line_is_told() -> None:
    loader = lab.event(8, lab.IPL, b"quiet", b"kernel_cmdline: quiet\0")
    stub = lab.event(8, lab.IPL, "quiet\0".encode("utf-16-le"))
    state = read(loader, stub, *MACHINE.events())
    assert (state.command_lines, state.unknown) == (("quiet", "quiet"), ())


@pytest.mark.parametrize(
    "event",
    [
        lab.event(8, lab.IPL, b"quiet", b"kernel_cmdline: debug\0"),
        lab.event(8, lab.IPL, b"quiet", b"grub_cmd: quiet\0"),
        lab.event(8, lab.IPL, b"quiet"),
        lab.event(8, lab.EVENT_TAG, b"quiet", b"kernel_cmdline: quiet\0"),
        lab.event(9, lab.IPL, b"initrd", lab.tagged(0x8F3B22EC, b"")),
        lab.event(9, lab.EVENT_TAG, b"initrd", lab.tagged(0x8F3B22EE, b"")),
        lab.event(9, lab.EVENT_TAG, b"initrd", lab.tagged(0x8F3B22EC, b"")[:-1]),
        lab.event(9, lab.EVENT_TAG, b"initrd", b""),
        lab.event(9, write.SEPARATOR, bytes(4)),
    ],
)
def test_what_is_neither_command_line_nor_initrd_is_unknown(event: Event) -> None:
    assert len(read(*MACHINE.events(), event).unknown) == 1


def test_each_thing_that_the_kernel_was_given_counts() -> None:
    more = (lab.initrd_event(b"another"), *MACHINE.given())
    state = read(*replace(MACHINE, more=more).events())
    assert state.initrds == tuple(sha256(content) for content in (b"the initrd", b"another", b"the initrd"))
    assert len(state.load_options) == 2


# Hints


def test_where_programs_come_from_is_told() -> None:
    path = lab.node(4, 4, "\\EFI\\Linux\\a.efi\0".encode("utf-16-le"))
    at = replace(MACHINE.events()[APPLICATION], data=lab.image_load(path))
    assert read(*changed(APPLICATION, at)).places == ("\\EFI\\Linux\\a.efi",)


def test_the_first_few_manifests_of_firmware_are_told() -> None:
    told = [lab.event(0, write.NO_ACTION, b"", write.manifest(number)) for number in (1, 2, 3)]
    state = read(*told, *MACHINE.events())
    assert [manifest.guid for manifest in state.manifests] == [write.MANIFEST_GUID] * 3
    assert state.quirks == ("sp800-155",)
    assert replace(state, manifests=(), quirks=()) == read(*MACHINE.events())
    assert len(read(*told * 20, *MACHINE.events()).manifests) == 8


def test_an_unknown_variable_is_named() -> None:
    shim = lab.variable("MokListTrusted", b"\1", bytes(16))
    (told,) = read(*replace(MACHINE, more=(lab.event(7, lab.AUTHORITY, shim),)).events()).unknown
    assert told.endswith(": variable MokListTrusted")
    hostile = lab.variable("\x1b[2J\u202e", b"\1", bytes(16))
    (told,) = read(*replace(MACHINE, more=(lab.event(7, lab.AUTHORITY, hostile),)).events()).unknown
    assert told.endswith(": variable ?[2J?")


# The kernel image


@pytest.mark.parametrize("told", ["utf-16-le", "ascii"])
@pytest.mark.parametrize("end", ["\0", ""])
def test_a_section_is_a_name_and_a_content(told: str, end: str) -> None:
    name, content = lab.section(".dtb", b"devices")
    name = replace(name, data=(".dtb" + end).encode(told))
    state = read(*replace(MACHINE, more=(name, replace(content, data=b""))).events())
    assert state.sections[-1] == (".dtb", sha256(b"devices"))
    assert not state.unknown


def test_the_same_section_twice_is_told_twice() -> None:
    state = read(*replace(MACHINE, more=lab.section(".cmdline", b"init=/bin/sh")).events())
    assert [name for name, _ in state.sections].count(".cmdline") == 2


@pytest.mark.parametrize(
    "name",
    [
        lab.event(11, lab.IPL, b".initrd\0", b".linux\0"),
        lab.event(11, lab.IPL, b".initrd", b".initrd"),
        lab.event(11, lab.IPL, b"initrd\0", b"initrd\0"),
        lab.event(11, lab.IPL, b"\0", b"\0"),
        lab.event(11, lab.IPL, b".initrd\0", b""),
        lab.event(11, lab.IPL, b".initrd\0", b".initrd\0\xff\xd8\xff"),
        lab.event(11, lab.IPL, b".initrd\0", b".initrd\0" * 100),
        lab.event(11, lab.EVENT_TAG, b".initrd\0", b".initrd\0"),
    ],
)
def test_a_section_whose_name_was_not_measured_is_unknown(name: Event) -> None:
    state = read(*replace(MACHINE, more=(name, lab.event(11, lab.POST_CODE, b"content"))).events())
    assert len(state.sections) == len(MACHINE.sections)
    assert [told.startswith("event ") for told in state.unknown] == [True, True]


def test_a_name_without_a_section_is_unknown() -> None:
    name, _ = lab.section(".splash", b"")
    assert read(*replace(MACHINE, more=(name,)).events()).unknown == ("PCR 11 ends with the name of section .splash",)


def test_a_phase_in_the_log_is_unknown() -> None:
    """systemd extends its words without a log, so whoever writes them there has something to hide."""
    word = lab.event(11, lab.IPL, b"sysinit")
    assert len(read(*replace(MACHINE, more=(word,)).events()).unknown) == 1


# Properties

STORY = MACHINE.boot_log()
KINDS = st.sampled_from(
    [write.SEPARATOR, lab.IPL, lab.DRIVER_CONFIG, lab.APPLICATION, lab.DRIVER, lab.ACTION, lab.AUTHORITY]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(STORY) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_log_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    untrusted = bytearray(STORY)
    for offset, value in changes:
        untrusted[offset] = value
    try:
        log = parse_boot_log(bytes(untrusted))
    except LogRefused:
        return
    read_or_refuse(log)


@given(st.lists(st.tuples(st.sampled_from([2, 4, 7, 11]), KINDS, st.binary(max_size=80), st.booleans()), max_size=12))
def test_any_events_are_read_or_refused(events: list[tuple[int, int, bytes, bool]]) -> None:
    told = [lab.event(pcr, kind, data, data if honest else b"other") for pcr, kind, data, honest in events]
    read_or_refuse(parse_boot_log(lab.log_of(told)))


def read_or_refuse(log: BootLog) -> None:
    try:
        state = decode(log)
    except LogRefused:
        return
    # Nothing of the judged PCRs is dropped in silence: each event is in the state, or it is unknown.
    judged = [event for event in log.events if event.type != write.NO_ACTION and event.pcr in {4, 7, 11}]
    told = len(state.applications) + len(state.authorities) + len(state.variables) + 2 * len(state.sections)
    spoken_for = {write.SEPARATOR, lab.ACTION, lab.DRIVER_CONFIG}
    assert len([event for event in judged if event.type not in spoken_for]) <= told + len(state.unknown)
