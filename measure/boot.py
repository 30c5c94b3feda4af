# SPDX-License-Identifier: Apache-2.0
"""What ran before vmgate: found in the boot logs as far as the TPM bears them out, and compared with a host image.

``explain`` finds the PCR values that the logs add up to and shows nothing that was parsed before they fit.
``boot_findings`` compares, one finding a check: Secure Boot, its keys and the key that was used, the program that
firmware started, each section of the kernel image, the command line and initrd that the kernel was given, the phase of
the boot, the firmware, and every file that the kernel's list names (``measure.boot_files``); and it names the quirks of
the log (``measure.quirks``). This module does no I/O, and does not prove that PCR values are a TPM's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from documents.host_image import HostImage
from documents.verdict import Finding
from measure import bootlog
from measure.boot_contents import load_options
from measure.boot_events import JUDGED, BootState, decode
from measure.boot_files import IMA_PCR, NOTHING, ImageFiles, compared, found_out
from measure.errors import LogRefused
from measure.firmware import firmware_events, firmware_finding
from measure.formats.cursor import refused
from measure.ima import ImaEntry
from measure.known_entries import KnownEntries
from measure.pcr import BOOT_PCRS, KERNEL_IMAGE_PCR, extend, measure, reset_value
from measure.quirks import MANIFEST, QUIRKS

IMA_LAG: Final = 2_000
"""How many entries a list can have gained between the quote and its reading, and some more."""

PHASE_PATHS: Final = (
    "sysinit:ready",
    "sysinit",
    "",
    "sysinit:ready:shutdown",
    "sysinit:ready:shutdown:final",
    "sysinit:final",
    "enter-initrd:leave-initrd:sysinit:ready",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd",
    "enter-initrd",
    "enter-initrd:leave-initrd:sysinit:ready:shutdown",
    "enter-initrd:leave-initrd:sysinit:ready:shutdown:final",
    "enter-initrd:leave-initrd:sysinit:final",
)
"""What systemd-pcrphase can have extended into PCR 11 so far: the words of its units, joined by colons, the likeliest
first (systemd-pcrphase.service(8)). It writes no log. An initrd without systemd has no phases."""

_SECTIONS: Final = MappingProxyType({".linux": "kernel", ".cmdline": "command line", ".initrd": "initrd"})
"""How people call the sections that they know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What ran before vmgate, as far as PCR values bear it out.

    Attributes:
        state: what the boot log tells.
        pcrs: the values of PCR 0 to 11 (SHA-256 bank) that matched.
        phase: how far systemd was, one of ``PHASE_PATHS``.
        ima: the entries of the IMA list that PCR 10 covers.
        firmware: what PCR 0 was extended with, see ``measure.firmware``.
    """

    state: BootState
    pcrs: Mapping[int, bytes]
    phase: str
    ima: tuple[ImaEntry, ...]
    firmware: tuple[str, ...] = ()


def explain(
    untrusted_boot_log: bytes,
    untrusted_ima: bytes,
    matches: Callable[[Mapping[int, bytes]], bool],
    known: KnownEntries | None = None,
) -> Booted:
    """Find the values of PCR 0 to 11 that are both what the logs add up to and what the TPM has.

    PCR 0 to 9 are what the boot log says. The IMA list can be ahead of the TPM's values, so PCR 10 is tried with up to
    ``IMA_LAG`` of its last entries left out. PCR 11 is the boot log's, extended by each of ``PHASE_PATHS``.

    Args:
        untrusted_boot_log: of the firmware; never empty.
        untrusted_ima: the kernel's list, in either form; empty where it has none.
        matches: tells whether PCR 0 to 11 have these values, by index; asked at most ``IMA_LAG`` times for each phase.
        known: entries of the IMA list that need no parsing, for who judges many hosts.

    Raises:
        LogRefused: a log is malformed, or no values match; or see ``decode``.
    """
    log = bootlog.parse_boot_log(untrusted_boot_log)
    if "sha256" not in log.banks:
        raise refused("boot log", "it has no SHA-256 bank")
    replayed = bootlog.replay(log, ("sha256",))["sha256"]
    if IMA_PCR in replayed:
        # Whoever writes the list could hide its first entries there.
        raise refused("boot log", f"it extends PCR {IMA_PCR}, which is the kernel's")
    entries, lists = (known or KnownEntries()).read(untrusted_ima)
    if any(entry.pcr != IMA_PCR for entry in entries):
        raise refused("IMA list", f"an entry is of another PCR than {IMA_PCR}")
    base = {index: replayed.get(index, reset_value("sha256", index)) for index in BOOT_PCRS}
    phases = [(path, _enter(base[KERNEL_IMAGE_PCR], path)) for path in PHASE_PATHS]
    for count in range(len(entries), max(len(entries) - IMA_LAG, -1), -1):
        for path, value in phases:
            pcrs = {**base, IMA_PCR: lists[count], KERNEL_IMAGE_PCR: value}
            if matches(pcrs):
                return Booted(
                    state=decode(log),
                    pcrs=MappingProxyType(pcrs),
                    phase=path,
                    ima=entries[:count],
                    firmware=firmware_events(log),
                )
    raise LogRefused(
        "the boot logs were refused",
        cause="boot log and IMA list do not explain the PCR values of the TPM",
        remedy="take both again; if they still do not, something extended a PCR without them, and only a reboot helps",
    )


def pcr11(image: HostImage, phase: str) -> str:
    """PCR 11 (SHA-256, hexadecimal) of a host that booted the image and is in this phase."""
    value = reset_value("sha256", KERNEL_IMAGE_PCR)
    for name, digest in image.sections:
        value = extend("sha256", value, measure("sha256", name.encode() + b"\0"))
        value = extend("sha256", value, bytes.fromhex(digest))
    return _enter(value, phase).hex()


def boot_findings(booted: Booted | None, image: HostImage, files: ImageFiles | None = None) -> Iterator[Finding]:
    """Compare what ran before vmgate with what should have.

    Args:
        booted: what ran; None where no log explains the TPM's values.
        image: what should have.
        files: of the image, for who compares many hosts with one image.
    """
    expected = "logs that add up to the TPM's PCR values"
    yield found_out("boot-log", "pcr/0-11", expected, expected if booted else NOTHING, good=booted is not None)
    if booted is None:
        return
    state = booted.state
    for text in state.unknown:
        yield found_out("boot-log", JUDGED, "events that are known", text, good=False)
    for name in state.quirks:
        yield found_out("boot-log-quirk", name, QUIRKS[name].accepted, _told(name, state), good=True)
    yield from _secure_boot(state, image)
    yield _application(state, image)
    yield from _sections(state.sections, image.sections)
    yield from _given(state, image)
    yield _phase(booted, image)
    yield firmware_finding(booted.pcrs[0].hex(), booted.firmware, image)
    yield from (files or ImageFiles(image)).findings(booted.ima, booted.pcrs)


def _secure_boot(state: BootState, image: HostImage) -> Iterator[Finding]:
    yield compared("secure-boot", "SecureBoot", "on", "on" if state.secure_boot else "off")
    found = tuple((name, state.variables.get(name, "")) for name, _ in image.variables), _all(state.authorities)
    # An announced state is accepted as a whole: the variables of one with the authority of another are neither.
    states = [(image.variables, image.authority), *((item.digests, item.authority) for item in image.secure_boot)]
    variables, authority = found if found in states else states[0]
    for (name, digest), (_, measured) in zip(variables, found[0], strict=True):
        yield compared("secure-boot-variable", name, digest, measured)
    yield compared("secure-boot-authority", "kernel image", authority, found[1])


def _application(state: BootState, image: HostImage) -> Finding:
    found = _all(state.applications)
    if found != image.boot_application and any(state.places):
        found += f", told to be from {', '.join(place or 'somewhere' for place in state.places[:8])}"
    return compared("boot-application", "kernel image", image.boot_application, found)


def _given(state: BootState, image: HostImage) -> Iterator[Finding]:
    """What the kernel was given: the image's own command line and initrd, and nothing else.

    Kernels that do not measure what they are given leave this to the sections of the image.
    """
    sections = dict(image.sections)
    if state.load_options:
        expected = load_options(image.command_line)
        yield compared("boot-command-line", "as the kernel was given it", expected, _all(state.load_options))
    for text in state.command_lines[:8]:
        yield compared("boot-command-line", "as a boot loader took it", image.command_line, text)
    if len(state.command_lines) > 8:
        more = f"{len(state.command_lines) - 8} more"
        yield found_out("boot-command-line", more, "one", "more than one", good=False)
    if state.initrds:
        initrd = sections.get(".initrd", "")
        yield compared("boot-initrd", "as the kernel was given it", initrd, _all(state.initrds))


def _told(quirk: str, state: BootState) -> str:
    if quirk != MANIFEST.name:
        return f"accepted: {QUIRKS[quirk].why}"
    return "; ".join(f"manifest {manifest.guid} {manifest.firmware}".strip() for manifest in state.manifests) or "none"


def _sections(measured: tuple[tuple[str, str], ...], wanted: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    for name, digest in measured:
        found.setdefault(name, []).append(digest)
    for name, digest in wanted:
        yield compared("boot-section", _SECTIONS.get(name, name), digest, _all(found.pop(name, ())))
    # Each name has at most 16 characters, but a log can hold any number of them.
    for name in list(found)[:32]:
        yield compared("boot-section", _SECTIONS.get(name, name), "", _all(found[name]))
    yield compared("boot-section", "order", _names(wanted), _names(measured))


def _phase(booted: Booted, image: HostImage) -> Finding:
    good = booted.phase in image.phases and booted.pcrs[KERNEL_IMAGE_PCR].hex() == pcr11(image, booted.phase)
    expected = " or ".join(f'phase "{phase}" of the host image' for phase in image.phases)
    found = f'phase "{booted.phase}"' + (" of the host image" if good else "")
    return found_out("boot-phase", f"pcr/{KERNEL_IMAGE_PCR}", expected, found, good=good)


def _enter(value: bytes, phase: str) -> bytes:
    """PCR 11 after these phases; systemd-pcrphase measures each word without a NUL."""
    for word in phase.split(":") if phase else ():
        value = extend("sha256", value, measure("sha256", word.encode()))
    return value


def _all(digests: tuple[str, ...] | list[str]) -> str:
    """The digests in one text, which equals an expected one only if there is no other."""
    return ", ".join(digests[:8]) + (f" and {len(digests) - 8} more" if len(digests) > 8 else "")


def _names(sections: tuple[tuple[str, str], ...]) -> str:
    return " ".join(name for name, _ in sections[:33])
