# SPDX-License-Identifier: Apache-2.0
"""What ran before vmgate: stories of hosts that boot something else than their image says, and of logs that lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents.host_image import HostImage
from documents.verdict import Finding, Verdict
from lab import boot_logs as lab
from lab import event_logs as write
from lab.boot_logs import IMAGE, LIBVIRTD, MACHINE, QEMU, VMGATE, Machine
from measure.boot import IMA_LAG, PHASE_PATHS, Booted, boot_findings, explain, pcr11
from measure.boot_events import decode
from measure.boot_files import MOST_FAILURES, ImageFiles
from measure.bootlog import parse_boot_log
from measure.errors import LogRefused
from measure.ima import parse_ima

OTHER = hashlib.sha256(b"other").hexdigest()


def booted(machine: Machine = MACHINE, ima: bytes | None = None) -> Booted:
    """What an honest log tells of a machine; ``ima`` is a list that its TPM is made to hold."""
    held = machine.pcrs()
    if ima is not None:
        held[10] = bytes(32)
        for entry in parse_ima(ima).entries if ima else ():
            digest = b"\xff" * 32 if entry.violation else hashlib.sha256(entry.data).digest()
            held[10] = lab.extended(held[10], digest)
    untrusted_ima = machine.ima_list() if ima is None else ima
    return explain(machine.boot_log(), untrusted_ima, lambda values: dict(values) == held)


def judged(found: Booted | None, image: HostImage = IMAGE) -> list[Finding]:
    """The findings, after they went through the document that carries them."""
    findings = tuple(boot_findings(found, image))
    verdict = Verdict(subject="host", level="L1", time=0, findings=findings)
    assert Verdict.parse(verdict.encode()) == verdict
    return list(findings)


def failed(machine: Machine = MACHINE, ima: bytes | None = None) -> list[tuple[str, str]]:
    """Check and subject of each finding that fails."""
    return subjects(judged(booted(machine, ima)), "fail")


def subjects(findings: Iterable[Finding], outcome: str) -> list[tuple[str, str]]:
    return [(finding.check, finding.subject) for finding in findings if finding.outcome == outcome]


def anything(values: Mapping[int, bytes]) -> bool:
    """A TPM that holds whatever it is asked for."""
    return bool(values)


def ima(*entries: bytes, template: bytes = b"ima-sig") -> bytes:
    return b"".join(write.ima_binary(10, template, data) for data in entries)


def taken_in(name: bytes, content: bytes) -> bytes:
    """An entry of a buffer."""
    digest = b"sha256:\0" + hashlib.sha256(content).digest()
    return ima(write.ima_data(digest, name + b"\0", content), template=b"ima-buf")


def of_file(path: str, content: bytes | None = None) -> bytes:
    held = MACHINE.files[path] if content is None else content
    return lab.ima_file(path, hashlib.sha256(held).digest())


AGGREGATE, *RAN = MACHINE.ima_entries()
VIOLATION = write.ima_binary(10, b"ima-sig", lab.ima_file(QEMU, bytes(32)), digest=bytes(20))


# A host that boots what its image says


@pytest.mark.parametrize("template", [b"ima-sig", b"ima-ng"])
def test_a_host_that_booted_its_image_passes_every_check(template: bytes) -> None:
    findings = judged(booted(MACHINE, MACHINE.ima_list(template)))
    assert subjects(findings, "pass") == [
        ("boot-log", "pcr/0-11"),
        ("secure-boot", "SecureBoot"),
        ("secure-boot-variable", "KEK"),
        ("secure-boot-variable", "PK"),
        ("secure-boot-variable", "db"),
        ("secure-boot-variable", "dbx"),
        ("secure-boot-authority", "kernel image"),
        ("boot-application", "kernel image"),
        ("boot-section", "kernel"),
        ("boot-section", ".osrel"),
        ("boot-section", "command line"),
        ("boot-section", "initrd"),
        ("boot-section", "order"),
        ("boot-command-line", "as the kernel was given it"),
        ("boot-initrd", "as the kernel was given it"),
        ("boot-phase", "pcr/11"),
        ("firmware", "pcr/0"),
        ("ima-list", "pcr/10"),
        ("ima-file", "4 files"),
        ("start-order", "libvirtd"),
    ]
    assert len(findings) == 20


def test_what_ran_is_told_as_the_tpm_bears_it_out() -> None:
    found = booted()
    assert found.pcrs == MACHINE.pcrs()
    assert found.phase == "sysinit:ready"
    assert found.ima == parse_ima(MACHINE.ima_list()).entries
    assert found.state.applications == (MACHINE.application,)


@pytest.mark.parametrize("locality", [None, 0, 3])
def test_a_firmware_that_starts_the_tpm_elsewhere_is_explained(locality: int | None) -> None:
    machine = replace(MACHINE, locality=locality)
    found = explain(machine.boot_log(), machine.ima_list(), machine.matches())
    assert subjects(judged(found, machine.image()), "fail") == []


def test_firmware_that_nobody_vouches_for_is_a_warning() -> None:
    findings = judged(booted(), MACHINE.image(accepted=False))
    (warning,) = (finding for finding in findings if finding.outcome != "pass")
    assert (warning.check, warning.outcome, warning.authority) == ("firmware", "warn", "none")
    assert warning.found == MACHINE.pcrs()[0].hex()


def test_no_log_is_one_failing_finding() -> None:
    assert subjects(judged(None), "fail") == [("boot-log", "pcr/0-11")]
    assert len(judged(None)) == 1


# A host that boots something else


def section(name: str, content: bytes) -> Machine:
    """The machine with another section, in a kernel image of its own."""
    sections = tuple((known, content if known == name else held) for known, held in MACHINE.sections)
    return replace(MACHINE, sections=sections)


GIVEN = "as the kernel was given it"
JUDGED = "pcr/4, pcr/7, pcr/8, pcr/9, pcr/11"

STORIES = {
    "Secure Boot is off": (replace(MACHINE, secure_boot=b"\0"), [("secure-boot", "SecureBoot")]),
    "another kernel": (section(".linux", b"rootkit"), [("boot-section", "kernel")]),
    "another command line": (
        section(".cmdline", b"init=/bin/sh"),
        [("boot-section", "command line"), ("boot-command-line", GIVEN)],
    ),
    "another initrd": (
        section(".initrd", b"rootkit"),
        [("boot-section", "initrd"), ("boot-initrd", GIVEN)],
    ),
    "another command line than the kernel image holds": (
        replace(MACHINE, more=(lab.event(8, lab.IPL, b"init=/bin/sh", b"kernel_cmdline: init=/bin/sh\0"),)),
        [("boot-command-line", "as a boot loader took it")],
    ),
    "a second initrd": (
        replace(MACHINE, more=(lab.initrd_event(b"rootkit"),)),
        [("boot-initrd", GIVEN)],
    ),
    "a text in front of the kernel": (
        replace(MACHINE, more=(lab.event(8, lab.IPL, b"insmod evil", b"grub_cmd: insmod evil\0"),)),
        [("boot-log", JUDGED)],
    ),
    "something else that the kernel measured": (
        replace(MACHINE, more=(lab.event(9, lab.EVENT_TAG, b"x", lab.tagged(0x12345678, b"")),)),
        [("boot-log", JUDGED)],
    ),
    "another .osrel": (section(".osrel", b""), [("boot-section", ".osrel")]),
    "a section is missing": (
        replace(MACHINE, sections=MACHINE.sections[:3]),
        [("boot-section", "initrd"), ("boot-section", "order")],
    ),
    "a section more": (
        replace(MACHINE, sections=(*MACHINE.sections, (".dtb", b"devices"))),
        [("boot-section", ".dtb"), ("boot-section", "order")],
    ),
    "a section twice": (
        replace(MACHINE, sections=(*MACHINE.sections, MACHINE.sections[0])),
        [("boot-section", "kernel"), ("boot-section", "order")],
    ),
    "sections in another order": (
        replace(MACHINE, sections=MACHINE.sections[::-1]),
        [("boot-section", "order")],
    ),
    "another kernel image by the same key": (
        replace(MACHINE, application=OTHER),
        [("boot-application", "kernel image")],
    ),
    "a program before the kernel image": (
        replace(MACHINE, more=(lab.program(4, lab.APPLICATION, OTHER),)),
        [("boot-application", "kernel image")],
    ),
    "another key in db vouched for the kernel image": (
        replace(MACHINE, signature=b"of another"),
        [("secure-boot-authority", "kernel image")],
    ),
    "a second key was used": (
        replace(MACHINE, more=(lab.event(7, lab.AUTHORITY, lab.variable("db", b"of another")),)),
        [("secure-boot-authority", "kernel image")],
    ),
    "DMA protection is off": (
        replace(MACHINE, more=(lab.event(7, lab.ACTION, b"DMA Protection Disabled"),)),
        [("boot-log", JUDGED)],
    ),
    "other firmware": (replace(MACHINE, firmware=b"firmware 2"), [("firmware", "pcr/0")]),
    "too early": (replace(MACHINE, phase=""), [("boot-phase", "pcr/11")]),
    "on its way down": (replace(MACHINE, phase="sysinit:ready:shutdown"), [("boot-phase", "pcr/11")]),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_host_that_booted_something_else_is_named(story: str) -> None:
    machine, expected = STORIES[story]
    found = failed(machine)
    if expected[0][0] == "boot-section":
        expected = [*expected, ("boot-phase", "pcr/11")]
    assert found == expected


def test_a_kernel_that_does_not_measure_what_it_was_given_is_judged_by_its_sections() -> None:
    silent = [event for event in MACHINE.events() if event.pcr != 9]
    found = booted()
    state = decode(parse_boot_log(lab.log_of(silent)))
    findings = judged(replace(found, state=state))
    assert subjects(findings, "fail") == []
    assert not {"boot-command-line", "boot-initrd"} & {finding.check for finding in findings}


def test_the_command_line_that_a_boot_loader_took_may_be_the_images_own() -> None:
    own = IMAGE.command_line.encode()
    machine = replace(MACHINE, more=(lab.event(8, lab.IPL, own, b"kernel_cmdline: " + own + b"\0"),))
    assert failed(machine) == []
    lines = (b"kernel_cmdline: a%d" % number for number in range(60))
    many = replace(MACHINE, more=tuple(lab.event(8, lab.IPL, line[16:], line) for line in lines))
    assert len(failed(many)) == 9


def test_a_program_that_is_not_the_images_is_told_with_its_place() -> None:
    path = lab.node(4, 4, "\\EFI\\evil.efi\0".encode("utf-16-le")) + lab.node(0x7F, 0xFF, b"")
    stranger = replace(lab.program(4, lab.APPLICATION, OTHER), data=lab.image_load(path))
    findings = judged(booted(replace(MACHINE, more=(stranger,))))
    found = next(finding.found for finding in findings if finding.check == "boot-application")
    assert found == f"{MACHINE.application}, {OTHER}, told to be from somewhere, \\EFI\\evil.efi"


def test_each_quirk_of_the_log_is_named() -> None:
    told = write.event2(0, write.NO_ACTION, {alg: bytes(write.SIZE[alg]) for alg in lab.BANKS}, write.manifest())
    machine = replace(MACHINE, locality=3)
    log = machine.boot_log() + told + bytes(500)
    found = explain(log, machine.ima_list(), machine.matches())
    findings = judged(found, machine.image())
    assert subjects(findings, "fail") == []
    quirks = {finding.subject: finding for finding in findings if finding.check == "boot-log-quirk"}
    assert list(quirks) == ["padding", "startup-locality", "sp800-155"]
    assert quirks["sp800-155"].found == f"manifest {write.MANIFEST_GUID} Maker Model 1 Maker 2.0"
    assert quirks["padding"].found.startswith("accepted: ")


@pytest.mark.parametrize("name", ["PK", "KEK", "db", "dbx"])
def test_other_keys_of_secure_boot_are_named(name: str) -> None:
    machine = replace(MACHINE, variables={**MACHINE.variables, name: b"the attacker's"})
    assert failed(machine) == [("secure-boot-variable", name)]


def test_a_key_that_firmware_did_not_measure_is_named() -> None:
    state = booted().state
    found = replace(booted(), state=replace(state, variables={"PK": state.variables["PK"]}))
    assert subjects(judged(found), "fail") == [("secure-boot-variable", name) for name in ("KEK", "db", "dbx")]


def test_a_finding_shows_what_was_expected_and_found() -> None:
    machine, _ = STORIES["another command line"]
    finding = next(finding for finding in judged(booted(machine)) if finding.subject == "command line")
    assert finding.expected == hashlib.sha256(dict(MACHINE.sections)[".cmdline"]).hexdigest()
    assert finding.found == hashlib.sha256(b"init=/bin/sh").hexdigest()


def test_many_strange_events_stay_within_bounds() -> None:
    strangers = tuple(lab.event(7, lab.ACTION, b"%d" % number) for number in range(500))
    programs = tuple(lab.program(4, lab.APPLICATION, hashlib.sha256(b"%d" % n).hexdigest()) for n in range(500))
    sections = tuple((f".s{number}", b"x") for number in range(500))
    machine = replace(MACHINE, more=(*strangers, *programs), sections=(*MACHINE.sections, *sections))
    assert len(judged(booted(machine))) < 300


# Files


FILE_STORIES: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "libvirtd was changed": (
        ima(AGGREGATE, of_file(VMGATE), of_file(LIBVIRTD, b"patched")),
        [("ima-file", LIBVIRTD)],
    ),
    "libvirtd was changed and started first": (
        ima(AGGREGATE, of_file(LIBVIRTD, b"patched"), of_file(VMGATE)),
        [("ima-file", LIBVIRTD), ("start-order", "libvirtd")],
    ),
    "a file of vmgate was changed": (
        ima(AGGREGATE, of_file(VMGATE, b"patched"), of_file(LIBVIRTD)),
        [("ima-file", VMGATE), ("start-order", "libvirtd")],
    ),
    "a program from elsewhere": (ima(AGGREGATE, *RAN, of_file("/tmp/x", b"x")), [("ima-file", "/tmp/x")]),
    "libvirtd from elsewhere": (
        ima(AGGREGATE, *RAN, of_file("/opt/libvirtd", MACHINE.files[LIBVIRTD])),
        [("ima-file", "/opt/libvirtd")],
    ),
    "a weaker hash": (
        ima(AGGREGATE, *RAN, lab.ima_file(QEMU, hashlib.sha1(MACHINE.files[QEMU]).digest(), alg=b"sha1")),
        [("ima-file", QEMU)],
    ),
    "a file that was open for writing": (ima(AGGREGATE, *RAN) + VIOLATION, [("ima-violation", QEMU)]),
    "a kernel started another": (ima(AGGREGATE, *RAN, AGGREGATE), [("ima-file", "boot_aggregate")]),
    "a command line for another kernel": (
        ima(AGGREGATE, *RAN) + taken_in(b"kexec-cmdline", b"init=/bin/sh"),
        [("ima-buffer", "kexec-cmdline")],
    ),
    "a key of somebody": (ima(AGGREGATE, *RAN) + taken_in(b".ima", bytes(range(256))), [("ima-buffer", ".ima")]),
    "a buffer that is another": (
        ima(AGGREGATE, *RAN)
        + write.ima_binary(
            10, b"ima-buf", write.ima_data(b"sha256:\0" + bytes(32), b"kexec-cmdline\0", b"init=/bin/sh")
        ),
        [("ima-file", "entry 5")],
    ),
    "the list of another boot": (
        ima(lab.ima_file("boot_aggregate", hashlib.sha256(b"other").digest()), *RAN),
        [("ima-list", "pcr/10")],
    ),
    "a list without its start": (ima(*RAN), [("ima-list", "pcr/10")]),
    "a list that starts with a violation": (
        write.ima_binary(10, b"ima-sig", AGGREGATE, digest=bytes(20)) + ima(*RAN),
        [("ima-list", "pcr/10")],
    ),
    "the start of an old kernel": (
        ima(lab.ima_file("boot_aggregate", hashlib.sha1(b"pcrs").digest(), alg=b"sha1"), *RAN),
        [("ima-list", "pcr/10")],
    ),
    "a list that starts with something else": (
        write.ima_binary(10, b"ima-buf", write.ima_data(b"", b"", b"")) + ima(*RAN),
        [("ima-list", "pcr/10")],
    ),
    "no list": (b"", [("ima-list", "pcr/10")]),
    "libvirtd before vmgate": (
        ima(AGGREGATE, of_file(LIBVIRTD), of_file(VMGATE)),
        [("start-order", "libvirtd")],
    ),
    "libvirtd before vmgate, and again": (
        ima(AGGREGATE, of_file(LIBVIRTD), of_file(VMGATE), of_file(LIBVIRTD)),
        [("start-order", "libvirtd")],
    ),
    "libvirtd without vmgate": (ima(AGGREGATE, of_file(LIBVIRTD)), [("start-order", "libvirtd")]),
}


# The digests of the second form tell what they are of.
for word, digests in (("ima", "sha256"), ("verity", "fsverity")):
    for other in ("sha256", "fsverity"):
        files = {file.path: getattr(file, other) for file in IMAGE.files}
        entry = write.ima_data(f"{word}:sha256:\0".encode() + bytes.fromhex(files[QEMU]), QEMU.encode() + b"\0", b"")
        FILE_STORIES[f"the {other} of a file as {word}"] = (
            ima(AGGREGATE, *RAN) + ima(entry, template=b"ima-sigv2"),
            [] if other == digests else [("ima-file", QEMU)],
        )


@pytest.mark.parametrize("story", FILE_STORIES)
def test_a_file_that_is_not_the_images_is_named(story: str) -> None:
    untrusted_ima, expected = FILE_STORIES[story]
    assert failed(MACHINE, untrusted_ima) == expected


def test_what_the_kernel_took_in_is_told_harmlessly() -> None:
    for content, told in ((b"init=/bin/sh\x1b[2J", r"init=/bin/sh\x1b[2J"), (b"\xff" * 2_000, "not a text"), (b"", "")):
        findings = judged(booted(MACHINE, ima(AGGREGATE, *RAN) + taken_in(b"kexec-cmdline", content)))
        found = next(finding for finding in findings if finding.check == "ima-buffer")
        digest = hashlib.sha256(content).hexdigest()
        assert (found.outcome, found.found) == ("fail", f"{len(content)} bytes, sha256:{digest}: {told}")
    long = judged(booted(MACHINE, ima(AGGREGATE, *RAN) + taken_in(b"kexec-cmdline", b"\n" * 50_000)))
    assert max(len(finding.found) for finding in long) == 500


def test_a_host_that_has_not_started_libvirtd_is_in_order() -> None:
    findings = judged(booted(MACHINE, ima(AGGREGATE, of_file(VMGATE))))
    assert subjects(findings, "fail") == []
    assert findings[-1].found == "libvirtd was not started"


def test_the_daemon_of_qemu_alone_counts_as_libvirtd() -> None:
    path = "/usr/sbin/virtqemud"
    files = {**MACHINE.files, path: b"virtqemud"}
    machine = replace(MACHINE, files=files)
    before, behind = (replace(machine, ran=ran) for ran in ((VMGATE, path, LIBVIRTD), (path, VMGATE, LIBVIRTD)))
    assert subjects(judged(booted(before), machine.image()), "fail") == []
    assert subjects(judged(booted(behind), machine.image()), "fail") == [("start-order", "libvirtd")]


def test_a_signature_does_not_change_the_file() -> None:
    signed = write.ima_data(b"sha256:\0" + hashlib.sha256(MACHINE.files[QEMU]).digest(), QEMU.encode() + b"\0", b"\3")
    assert failed(MACHINE, ima(AGGREGATE, *RAN, signed)) == []


@pytest.mark.parametrize(
    "name", ["", "/a\n\x1b[2J", "/caf\xc3\xa9", "/" + "x" * 5_000, "\\x2d", "/usr/bin/a (deleted)"]
)
def test_a_hostile_name_is_shown_harmlessly(name: str) -> None:
    finding = next(f for f in judged(booted(MACHINE, ima(AGGREGATE, of_file(name, b"x")))) if f.outcome == "fail")
    assert finding.check == "ima-file"
    assert finding.subject.isascii()
    assert finding.subject.isprintable()
    assert 1 <= len(finding.subject) <= 300


def test_failing_files_are_counted_beyond_a_bound() -> None:
    entries = [of_file(f"/tmp/{number}", b"x") for number in range(MOST_FAILURES + 50)]
    untrusted_ima = ima(AGGREGATE, *RAN, *entries) + VIOLATION
    failures = failed(MACHINE, untrusted_ima)
    assert len(failures) == MOST_FAILURES + 1
    assert failures[-1] == ("ima-file", "51 more entries")


def test_files_of_an_image_serve_many_hosts() -> None:
    files = ImageFiles(IMAGE)
    good, bad = booted(), booted(MACHINE, ima(AGGREGATE, *RAN, of_file("/tmp/x", b"x")) + VIOLATION)
    for found in (good, bad, good, bad):
        assert list(boot_findings(found, IMAGE, files)) == judged(found)


def test_a_violation_of_a_file_that_was_good_once_is_named() -> None:
    """Nothing covers a violation's fields, so they can say that the file is the image's."""
    files = ImageFiles(IMAGE)
    found = booted(MACHINE, ima(AGGREGATE, *RAN) + write.ima_binary(10, b"ima-sig", of_file(QEMU), digest=bytes(20)))
    for _ in range(2):
        assert subjects(boot_findings(found, IMAGE, files), "fail") == [("ima-violation", QEMU)]


def test_many_signatures_of_one_file_do_not_fill_the_memory() -> None:
    files = ImageFiles(IMAGE)
    digest = b"sha256:\0" + hashlib.sha256(MACHINE.files[QEMU]).digest()
    signed = [write.ima_data(digest, QEMU.encode() + b"\0", b"%d" % number) for number in range(1_000)]
    found = booted(MACHINE, ima(AGGREGATE, *RAN, *signed))
    assert subjects(boot_findings(found, IMAGE, files), "fail") == []
    assert len(files._good) == 2 * len(IMAGE.files)


def test_what_is_expected_of_a_stranger_and_of_a_changed_file_is_told() -> None:
    untrusted_ima = ima(AGGREGATE, of_file("/tmp/x", b"x"), of_file(QEMU, b"patched"))
    stranger, patched = (f for f in judged(booted(MACHINE, untrusted_ima)) if f.check == "ima-file")
    assert stranger.expected == "a file of the host image"
    assert stranger.found == f"no file of it, sha256:{hashlib.sha256(b'x').hexdigest()}"
    assert patched.expected == f"sha256:{hashlib.sha256(MACHINE.files[QEMU]).hexdigest()}"
    assert patched.found == f"sha256:{hashlib.sha256(b'patched').hexdigest()}"


def test_what_was_good_once_is_not_good_under_another_name_of_its_template() -> None:
    files = ImageFiles(IMAGE)
    assert all(finding.outcome == "pass" for finding in boot_findings(booted(), IMAGE, files))
    relabelled = [entry._replace(template="ima-ng") for entry in booted().ima]
    found = replace(booted(), ima=(booted().ima[0], *relabelled[1:]))
    assert list(boot_findings(found, IMAGE, files)) == judged(found)
    assert len(subjects(judged(found), "fail")) == len(RAN)


# Logs that lie


def explained(boot_log: bytes, untrusted_ima: bytes, machine: Machine = MACHINE) -> Booted:
    return explain(boot_log, untrusted_ima, machine.matches())


def test_a_log_of_another_boot_explains_nothing() -> None:
    off = replace(MACHINE, secure_boot=b"\0")
    for boot_log, untrusted_ima in (
        (MACHINE.boot_log(), off.ima_list()),
        (MACHINE.boot_log(), MACHINE.ima_list()),
        (off.boot_log(), MACHINE.ima_list()),
        (off.boot_log(), b""),
    ):
        with pytest.raises(LogRefused, match="were refused") as refused:
            explained(boot_log, untrusted_ima, off)
        assert "do not explain" in refused.value.cause


def test_an_event_that_is_left_out_or_changed_explains_nothing() -> None:
    events = MACHINE.events()
    for number, event in enumerate(events):
        for story in (events[:number] + events[number + 1 :], (*events[: number + 1], *events[number:])):
            with pytest.raises(LogRefused, match="were refused"):
                explained(lab.log_of(story), MACHINE.ima_list())
        other = replace(event, digests={**event.digests, "sha256": bytes(32)})
        with pytest.raises(LogRefused, match="were refused"):
            explained(lab.log_of((*events[:number], other, *events[number + 1 :])), MACHINE.ima_list())


def test_nothing_is_decoded_before_it_fits() -> None:
    """The log has an event that would be refused when read; a TPM that does not bear it out is told first."""
    forged = lab.event(7, lab.AUTHORITY, b"malformed")
    machine = replace(MACHINE, more=(forged,))
    with pytest.raises(LogRefused, match="do not explain"):
        explained(machine.boot_log(), machine.ima_list(), MACHINE)
    with pytest.raises(LogRefused, match="UEFI variable"):
        explained(machine.boot_log(), machine.ima_list(), machine)


def test_an_entry_cannot_be_left_out_of_the_list_or_moved() -> None:
    machine = replace(MACHINE, ran=(*MACHINE.ran, "/tmp/x"))
    entries = machine.ima_entries()
    shorter = [entries[:number] + entries[number + 1 :] for number in range(len(entries))]
    doubled = [entries[:number] + entries[number - 1 :] for number in range(1, len(entries))]
    for story in (*shorter, *doubled, entries[::-1]):
        with pytest.raises(LogRefused, match="do not explain"):
            explained(machine.boot_log(), ima(*story), machine)


def test_a_violation_cannot_be_hidden_in_the_list() -> None:
    held = booted(MACHINE, ima(AGGREGATE, *RAN) + VIOLATION).pcrs
    with pytest.raises(LogRefused, match="do not explain"):
        explain(MACHINE.boot_log(), ima(AGGREGATE, *RAN), lambda values: values == held)


def test_an_entry_of_another_pcr_cannot_be_slipped_in() -> None:
    """No TPM value covers it, and it would say that vmgate came first."""
    slipped = write.ima_binary(23, b"ima-sig", of_file(VMGATE))
    with pytest.raises(LogRefused, match="another PCR than 10"):
        explained(MACHINE.boot_log(), ima(AGGREGATE) + slipped + ima(*RAN))


def test_the_start_of_the_list_cannot_be_hidden_in_the_boot_log() -> None:
    """Root extended PCR 10 with a second list of good files, and calls the first list firmware's."""
    hidden = tuple(lab.event(10, lab.POST_CODE, data) for data in (AGGREGATE, of_file("/tmp/x", b"x")))
    with pytest.raises(LogRefused, match="it extends PCR 10"):
        explain(lab.log_of((*MACHINE.events(), *hidden)), MACHINE.ima_list(), anything)


def test_a_kernel_image_that_replays_the_sections_of_another_is_found() -> None:
    """It is signed too, and extends PCR 11 with what the image says: PCR 4 and its own sections came first."""
    replayed = tuple(event for name, content in MACHINE.sections for event in lab.section(name, content))
    machine = replace(
        MACHINE, application=OTHER, sections=((".linux", b"rootkit"), *MACHINE.sections[1:]), more=replayed
    )
    found = failed(machine)
    assert ("boot-application", "kernel image") in found
    assert ("boot-section", "kernel") in found
    assert ("boot-phase", "pcr/11") in found
    honest_sections = lab.log_of([event for event in machine.events() if event.pcr != 11] + list(replayed))
    with pytest.raises(LogRefused, match="do not explain"):
        explained(honest_sections, machine.ima_list(), machine)


@pytest.mark.parametrize("behind", [1, 7, IMA_LAG - 1])
def test_a_list_may_be_ahead_of_the_tpm(behind: int) -> None:
    later = ima(*(of_file(QEMU) for _ in range(behind)))
    found = explained(MACHINE.boot_log(), MACHINE.ima_list() + later)
    assert len(found.ima) == len(RAN) + 1
    assert subjects(judged(found), "fail") == []


def test_a_list_that_is_too_far_ahead_is_refused() -> None:
    later = ima(of_file(QEMU)) * IMA_LAG
    with pytest.raises(LogRefused, match="do not explain"):
        explained(MACHINE.boot_log(), MACHINE.ima_list() + later)


def test_the_work_is_bounded() -> None:
    asked = 0

    def never(values: Mapping[int, bytes]) -> bool:
        nonlocal asked
        asked += 1
        return False

    with pytest.raises(LogRefused, match="do not explain"):
        explain(MACHINE.boot_log(), ima(of_file(QEMU)) * (IMA_LAG + 500), never)
    assert asked == IMA_LAG * len(PHASE_PATHS)


def test_a_machine_without_a_list_is_explained_and_fails() -> None:
    held = {**MACHINE.pcrs(), 10: bytes(32)}
    found = explain(MACHINE.boot_log(), b"", lambda values: dict(values) == held)
    assert found.ima == ()
    assert subjects(judged(found), "fail") == [("ima-list", "pcr/10")]


@pytest.mark.parametrize(
    ("boot_log", "untrusted_ima", "cause"),
    [
        (b"", MACHINE.ima_list(), "empty"),
        (bytes(100), MACHINE.ima_list(), "padding"),
        (MACHINE.boot_log()[:-1], MACHINE.ima_list(), "should follow"),
        (write.sha1_event(4, lab.APPLICATION, b"d" * 20, b""), MACHINE.ima_list(), "no SHA-256 bank"),
        (MACHINE.boot_log(), MACHINE.ima_list()[:-1], "should follow"),
        (MACHINE.boot_log(), b"\0", "no template name"),
    ],
)
def test_what_is_no_log_is_refused(boot_log: bytes, untrusted_ima: bytes, cause: str) -> None:
    with pytest.raises(LogRefused) as refused:
        explain(boot_log, untrusted_ima, anything)
    assert cause in refused.value.cause


# Phases


@pytest.mark.parametrize("phase", PHASE_PATHS)
def test_each_phase_is_found_and_predicted(phase: str) -> None:
    machine = replace(MACHINE, phase=phase)
    found = explained(machine.boot_log(), machine.ima_list(), machine)
    assert found.phase == phase
    assert pcr11(IMAGE, phase) == machine.pcrs()[11].hex()
    image = replace(IMAGE, phases=(phase,))
    assert subjects(judged(found, image), "fail") == []


def test_phases_follow_each_other_as_systemd_units_do() -> None:
    paths = [tuple(path.split(":")) if path else () for path in PHASE_PATHS]
    assert len(set(paths)) == len(paths)
    assert all(path[:-1] in paths for path in paths if path)
    assert {word for path in paths for word in path} == {
        "enter-initrd",
        "leave-initrd",
        "sysinit",
        "ready",
        "shutdown",
        "final",
    }


def test_a_phase_that_systemd_does_not_have_explains_nothing() -> None:
    for phase in ("ready", "ready:sysinit", "sysinit:ready:ready", "attack"):
        machine = replace(MACHINE, phase=phase)
        with pytest.raises(LogRefused, match="do not explain"):
            explained(machine.boot_log(), machine.ima_list(), machine)


# Properties

PARTS = (MACHINE.boot_log(), MACHINE.ima_list())


@settings(max_examples=200)
@given(
    st.sampled_from([0, 1]),
    st.lists(st.tuples(st.integers(0, min(map(len, PARTS)) - 1), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_damaged_logs_tell_the_same_or_are_refused(which: int, changes: list[tuple[int, int]]) -> None:
    parts = [bytearray(part) for part in PARTS]
    for offset, value in changes:
        parts[which][offset] = value
    try:
        found = explained(bytes(parts[0]), bytes(parts[1]))
    except LogRefused:
        return
    # What no digest covers may differ: types, descriptions, names of templates. It never looks better than it is.
    assert found.pcrs == MACHINE.pcrs()
    honest = booted().state
    if not found.state.unknown:
        assert (found.state.secure_boot, found.state.variables) == (honest.secure_boot, honest.variables)
        assert (found.state.applications, found.state.sections) == (honest.applications, honest.sections)
    assert {finding.outcome for finding in judged(found)} <= {"pass", "fail"}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_noise_is_explained_or_refused(boot_log: bytes, untrusted_ima: bytes) -> None:
    for logs in ((boot_log, untrusted_ima), (PARTS[0], untrusted_ima), (PARTS[0], PARTS[1] + untrusted_ima)):
        try:
            found = explain(*logs, anything)
        except LogRefused:
            continue
        judged(found)
