# SPDX-License-Identifier: Apache-2.0
"""What a boot log tells of a boot: Secure Boot and its keys, what firmware started, the kernel image and what it got.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4 (what each PCR holds) and 10 (events, UEFI_VARIABLE_DATA);
UEFI 2.10, 32.4.1 (EFI_SIGNATURE_DATA); systemd 252, src/boot/efi/stub.c (PCR 8 and 11); Linux, efi-stub-helper.c
(PCR 9).

Only the SHA-256 bank counts. Data is used after its hash was compared with the digest. An event's type is covered by
no digest, so what it says is only tried out: in PCR 4, 7, 8, 9 and 11 an event is what its digest proves, or what the
appraisal compares its digest with, or it is unknown.
Compare the log's replay with the TPM first (``measure.boot``). This module does not judge and does no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from documents.host_image import SECTION
from measure import boot_contents
from measure.bootlog import BOUNDS, EV_NO_ACTION, BootEvent, BootLog
from measure.errors import LogRefused
from measure.formats.cursor import Cursor, refused
from measure.pcr import KERNEL_IMAGE_PCR, SECURE_BOOT_PCR

EV_SEPARATOR: Final = 0x00000004
EV_EVENT_TAG: Final = 0x00000006
EV_IPL: Final = 0x0000000D
EV_EFI_VARIABLE_DRIVER_CONFIG: Final = 0x80000001
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER: Final = 0x80000004
EV_EFI_ACTION: Final = 0x80000007
EV_EFI_VARIABLE_AUTHORITY: Final = 0x800000E0

DRIVER_PCR: Final = 2
APPLICATION_PCR: Final = 4
LOADER_PCR: Final = 8
KERNEL_PCR: Final = 9
JUDGED: Final = "pcr/4, pcr/7, pcr/8, pcr/9, pcr/11"
"""The PCRs of which each event must be known."""

_WHAT: Final = "boot log"
_SECURE_BOOT: Final = "SecureBoot"
_DB: Final = "db"
_VARIABLE_EVENTS: Final = frozenset({EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_AUTHORITY})
_LONGEST_NAME: Final = 64
_MOST_TOLD: Final = 100
_LONGEST_TOLD: Final = 100
_MOST_MANIFESTS: Final = 8

# EFI_GLOBAL_VARIABLE and EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI 2.10, 3.3 and 32.6).
_GLOBAL: Final = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_SECURITY: Final = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
_VARIABLES: Final = frozenset(
    {(_GLOBAL, _SECURE_BOOT), (_GLOBAL, "PK"), (_GLOBAL, "KEK"), (_SECURITY, _DB), (_SECURITY, "dbx")}
)


def _digests(contents: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(hashlib.sha256(content).digest() for content in contents)


# A third separator, 1, tells of an error of the firmware and is not understood.
_SEPARATORS: Final = _digests((bytes(4), b"\xff" * 4))
_ACTIONS: Final = _digests(
    (b"Calling EFI Application from Boot Option", b"Returning from EFI Application from Boot Option")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """What ran before the kernel and by whose word, as far as the log's SHA-256 digests prove it. Digests are hex.

    Attributes:
        secure_boot: whether firmware measured SecureBoot as on.
        variables: digest of the data of PK, KEK, db and dbx, of those that were measured.
        authorities: digest of each EFI_SIGNATURE_DATA in db that vouched for a program, in order.
        applications: Authenticode digest of each program in PCR 4, in order; firmware measures those too that it then
            does not start.
        places: where each of the applications was loaded from, for people: no digest covers it, and it can be empty, as
            it is beyond the first 100.
        drivers: the same as applications for PCR 2, of those events that call themselves drivers; an attacker can hide
            one.
        command_lines: what a boot loader or the kernel image's stub took for the kernel's command line instead of the
            image's own (PCR 8), in order.
        load_options: digest of each command line that the kernel's own stub was given (PCR 9), in UTF-16 with its NUL.
        initrds: digest of each initrd that the kernel's own stub loaded (PCR 9).
        sections: (name, digest of the content) of the sections of the kernel image in PCR 11, in order.
        manifests: what firmware says of its reference values, for people: no digest covers it. The first few.
        quirks: names of the quirks of the log (``measure.quirks``).
        unknown: what else is in the PCRs of ``JUDGED``, told for people; an appraisal must fail on any.
    """

    secure_boot: bool
    variables: Mapping[str, str]
    authorities: tuple[str, ...]
    applications: tuple[str, ...]
    places: tuple[str, ...]
    drivers: tuple[str, ...]
    command_lines: tuple[str, ...]
    load_options: tuple[str, ...]
    initrds: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]
    manifests: tuple[boot_contents.Manifest, ...]
    quirks: tuple[str, ...]
    unknown: tuple[str, ...]


def decode(log: BootLog) -> BootState:
    """Read the events of a log whose replay was compared with the TPM.

    Raises:
        LogRefused: no SHA-256 bank; or, of a UEFI variable in PCR 7, data that does not hash to its digest or is
            malformed, or a variable that was measured twice with different data.
    """
    if "sha256" not in log.banks:
        raise refused(_WHAT, "it has no SHA-256 bank")
    decoder = _Decoder(log.quirks)
    for number, event in enumerate(log.events):
        if event.type != EV_NO_ACTION:
            decoder.read(number, event)
        else:
            decoder.hear(event)
    return decoder.finish()


class _Decoder:
    """What was found so far."""

    def __init__(self, quirks: tuple[str, ...]) -> None:
        self._quirks = quirks
        self._variables: dict[str, bytes] = {}
        self._authorities: list[str] = []
        self._applications: list[str] = []
        self._places: list[str] = []
        self._drivers: list[str] = []
        self._command_lines: list[str] = []
        self._tagged: dict[int, list[str]] = {boot_contents.LINUX_LOAD_OPTIONS: [], boot_contents.LINUX_INITRD: []}
        self._manifests: list[boot_contents.Manifest] = []
        self._sections: list[tuple[str, str]] = []
        self._section = ""
        self._separated: set[int] = set()
        self._unknown: list[str] = []
        self._unknowns = 0

    def read(self, number: int, event: BootEvent) -> None:
        """Take one event that was extended."""
        digest = event.digests["sha256"]
        if event.pcr == DRIVER_PCR:
            if event.type == EV_EFI_BOOT_SERVICES_DRIVER:
                self._drivers.append(digest.hex())
        elif event.pcr == APPLICATION_PCR:
            known = self._separator(event, digest) or self._application(event, digest)
            self._require(number, event, known=known)
        elif event.pcr == SECURE_BOOT_PCR:
            known = self._separator(event, digest) or self._variable(event, digest)
            self._require(number, event, known=known)
        elif event.pcr == LOADER_PCR:
            found = boot_contents.measured_text(event.data, digest) if event.type == EV_IPL else None
            self._require(number, event, known=self._command_line(found), text=found)
        elif event.pcr == KERNEL_PCR:
            self._require(number, event, known=self._kernel(event, digest))
        elif event.pcr == KERNEL_IMAGE_PCR:
            self._require(number, event, known=self._kernel_image(event, digest))

    def hear(self, event: BootEvent) -> None:
        """Take one event that was not extended."""
        if len(self._manifests) < _MOST_MANIFESTS and (manifest := boot_contents.manifest_of(event.data)):
            self._manifests.append(manifest)

    def finish(self) -> BootState:
        """All events were read."""
        for pcr in (APPLICATION_PCR, SECURE_BOOT_PCR):
            if pcr not in self._separated:
                self._tell(f"PCR {pcr} has no separator, with which firmware ends its own part")
        if self._section:
            self._tell(f"PCR {KERNEL_IMAGE_PCR} ends with the name of section {self._section}")
        if self._unknowns > len(self._unknown):
            self._unknown.append(f"{self._unknowns - len(self._unknown)} more")
        secure_boot = self._variables.pop(_SECURE_BOOT, b"")
        return BootState(
            secure_boot=secure_boot == b"\1",
            variables=MappingProxyType({name: _sha256(data).hex() for name, data in self._variables.items()}),
            authorities=tuple(self._authorities),
            applications=tuple(self._applications),
            places=tuple(self._places),
            drivers=tuple(self._drivers),
            command_lines=tuple(self._command_lines),
            load_options=tuple(self._tagged[boot_contents.LINUX_LOAD_OPTIONS]),
            initrds=tuple(self._tagged[boot_contents.LINUX_INITRD]),
            sections=tuple(self._sections),
            manifests=tuple(self._manifests),
            quirks=self._quirks,
            unknown=tuple(self._unknown),
        )

    def _separator(self, event: BootEvent, digest: bytes) -> bool:
        """What firmware measures once into each of PCR 0 to 7 before it starts the first program."""
        if event.type != EV_SEPARATOR or digest not in _SEPARATORS or event.pcr in self._separated:
            return False
        self._separated.add(event.pcr)
        return True

    def _application(self, event: BootEvent, digest: bytes) -> bool:
        """PCR 4: the data names a place, the digest is the program's own."""
        if event.type == EV_EFI_BOOT_SERVICES_APPLICATION:
            self._applications.append(digest.hex())
            self._places.append(boot_contents.place_of(event.data) if len(self._places) < _MOST_TOLD else "")
            return True
        return event.type == EV_EFI_ACTION and digest in _ACTIONS

    def _variable(self, event: BootEvent, digest: bytes) -> bool:
        """PCR 7: before the separator how Secure Boot is set up, behind it whom it believed."""
        if event.type not in _VARIABLE_EVENTS:
            return False
        if _sha256(event.data) != digest:
            raise refused(_WHAT, "a UEFI variable in it does not hash to its digest")
        guid, name, data = _read_variable(event.data)
        separated = SECURE_BOOT_PCR in self._separated
        if event.type == EV_EFI_VARIABLE_AUTHORITY:
            if not separated or (guid, name) != (_SECURITY, _DB):
                return False
            self._authorities.append(_sha256(data).hex())
            return True
        if separated or (guid, name) not in _VARIABLES:
            return False
        if name == _SECURE_BOOT and data not in {b"", b"\0", b"\1"}:
            raise refused(_WHAT, "SecureBoot is neither on nor off in it")
        if self._variables.setdefault(name, data) != data:
            raise refused(_WHAT, f"variable {name} is measured twice in it, with different data")
        return True

    def _command_line(self, found: boot_contents.Text | None) -> bool:
        """PCR 8: what a boot loader or an older stub measures; other texts of a boot loader stay unknown."""
        if found is None or not found.command_line:
            return False
        self._command_lines.append(found.text)
        return True

    def _kernel(self, event: BootEvent, digest: bytes) -> bool:
        """PCR 9: the kernel's stub tells by a tag what it measured. The appraisal compares the digest."""
        tag = boot_contents.tag_of(event.data) if event.type == EV_EVENT_TAG else None
        if tag is None or tag not in self._tagged:
            return False
        self._tagged[tag].append(digest.hex())
        return True

    def _kernel_image(self, event: BootEvent, digest: bytes) -> bool:
        """PCR 11: the stub measures the name of a section with its NUL, then the section."""
        if event.type != EV_IPL:
            return False
        if self._section:
            self._sections.append((self._section, digest.hex()))
            self._section = ""
            return True
        self._section = _section_name(event.data, digest)
        return bool(self._section)

    def _require(self, number: int, event: BootEvent, *, known: bool, text: boot_contents.Text | None = None) -> None:
        """Tell of an event that is not known; ``text`` is what it measured, where that was found already."""
        if known:
            return
        # A log can have 100,000 such events, and one is enough to fail.
        self._unknowns += 1
        if len(self._unknown) < _MOST_TOLD:
            digest = event.digests["sha256"]
            told = f"event {number}, PCR {event.pcr}, type {event.type:#010x}, digest {digest.hex()}"
            self._unknown.append(told + (f': "{_printable(text.text)}"' if text else _words(event, digest)))

    def _tell(self, unknown: str) -> None:
        self._unknowns += 1
        self._unknown.append(unknown)


def _read_variable(untrusted_data: bytes) -> tuple[bytes, str, bytes]:
    """UEFI_VARIABLE_DATA: GUID, name, data."""
    cursor = Cursor(untrusted_data, f"{_WHAT}'s UEFI variable", BOUNDS)
    guid = cursor.take(16)
    characters, length = (int.from_bytes(cursor.take(8), "little") for _ in range(2))
    if not 1 <= characters <= _LONGEST_NAME:
        raise cursor.refused(f"its name has {characters} characters")
    try:
        name = cursor.take(2 * characters).decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise cursor.refused("its name is not UTF-16") from error
    if length != cursor.left():
        raise cursor.refused(f"its data should have {length} bytes and {cursor.left()} are left")
    return guid, name, cursor.take(length)


def _section_name(untrusted_data: bytes, digest: bytes) -> str:
    """The name that the digest is of; empty where the data does not tell it. systemd 252 writes UTF-16."""
    if len(untrusted_data) > 2 * _LONGEST_NAME:
        return ""
    for encoding in ("utf-16-le", "ascii"):
        try:
            name = untrusted_data.decode(encoding).removesuffix("\0")
        except UnicodeDecodeError:
            continue
        if SECTION.fullmatch(name) and _sha256(name.encode() + b"\0") == digest:
            return name
    return ""


def _words(event: BootEvent, digest: bytes) -> str:
    """Data that is a text or a UEFI variable, where its hash shows that it was measured."""
    found = boot_contents.measured_text(event.data, digest)
    if found is not None:
        return f': "{_printable(found.text)}"'
    if event.type in _VARIABLE_EVENTS and _sha256(event.data) == digest:
        try:
            return f": variable {_printable(_read_variable(event.data)[1])}"
        except LogRefused:
            return ""
    return ""


def _printable(text: str) -> str:
    """The beginning of a text, without what a terminal would take for a command."""
    told = text[:_LONGEST_TOLD]
    return told if told.isascii() and told.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in told)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
