# SPDX-License-Identifier: Apache-2.0
"""What a boot log tells of a boot: Secure Boot and its keys, the programs that firmware started, the kernel image.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4 (what each PCR holds) and 10 (events, UEFI_VARIABLE_DATA);
UEFI 2.10, 32.4.1 (EFI_SIGNATURE_DATA); systemd 252, src/boot/efi/stub.c (PCR 11).

Only the SHA-256 bank counts. Data is used after its hash was compared with the digest. An event's type is covered by
no digest, so what it says is only tried out: in PCR 4, 7 and 11 an event is what its digest proves, or it is unknown.
Compare the log's replay with the TPM first (``measure.boot``). This module does not judge and does no I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from documents.host_image import SECTION
from measure.bootlog import BOUNDS, EV_NO_ACTION, BootEvent, BootLog
from measure.formats.cursor import Cursor, refused
from measure.pcr import KERNEL_IMAGE_PCR, SECURE_BOOT_PCR

EV_SEPARATOR: Final = 0x00000004
EV_IPL: Final = 0x0000000D
EV_EFI_VARIABLE_DRIVER_CONFIG: Final = 0x80000001
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER: Final = 0x80000004
EV_EFI_ACTION: Final = 0x80000007
EV_EFI_VARIABLE_AUTHORITY: Final = 0x800000E0

DRIVER_PCR: Final = 2
APPLICATION_PCR: Final = 4

_WHAT: Final = "boot log"
_SECURE_BOOT: Final = "SecureBoot"
_DB: Final = "db"
_LONGEST_NAME: Final = 64
_MOST_TOLD: Final = 100

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
        drivers: the same for PCR 2, of those events that call themselves drivers; an attacker can hide one.
        sections: (name, digest of the content) of the sections of the kernel image in PCR 11, in order.
        unknown: what else is in PCR 4, 7 and 11, told for people; an appraisal must fail on any.
    """

    secure_boot: bool
    variables: Mapping[str, str]
    authorities: tuple[str, ...]
    applications: tuple[str, ...]
    drivers: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


def decode(log: BootLog) -> BootState:
    """Read the events of a log whose replay was compared with the TPM.

    Raises:
        LogRefused: no SHA-256 bank; or, of a UEFI variable in PCR 7, data that does not hash to its digest or is
            malformed, or a variable that was measured twice with different data.
    """
    if "sha256" not in log.banks:
        raise refused(_WHAT, "it has no SHA-256 bank")
    decoder = _Decoder()
    for number, event in enumerate(log.events):
        if event.type != EV_NO_ACTION:
            decoder.read(number, event)
    return decoder.finish()


class _Decoder:
    """What was found so far."""

    def __init__(self) -> None:
        self._variables: dict[str, bytes] = {}
        self._authorities: list[str] = []
        self._applications: list[str] = []
        self._drivers: list[str] = []
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
        elif event.pcr == KERNEL_IMAGE_PCR:
            self._require(number, event, known=self._kernel_image(event, digest))

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
            drivers=tuple(self._drivers),
            sections=tuple(self._sections),
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
            return True
        return event.type == EV_EFI_ACTION and digest in _ACTIONS

    def _variable(self, event: BootEvent, digest: bytes) -> bool:
        """PCR 7: before the separator how Secure Boot is set up, behind it whom it believed."""
        if event.type not in {EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_AUTHORITY}:
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

    def _require(self, number: int, event: BootEvent, *, known: bool) -> None:
        if not known:
            self._tell(
                f"event {number}, PCR {event.pcr}, type {event.type:#010x}, digest {event.digests['sha256'].hex()}"
                + _words(event)
            )

    def _tell(self, unknown: str) -> None:
        # A log can have 100,000 such events, and one is enough to fail.
        self._unknowns += 1
        if len(self._unknown) < _MOST_TOLD:
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


def _words(event: BootEvent) -> str:
    """Data that is a text, where its hash shows that it was measured."""
    data = event.data
    is_text = 0 < len(data) <= _LONGEST_NAME and all(0x20 <= byte < 0x7F for byte in data)
    return f': "{data.decode("ascii")}"' if is_text and _sha256(data) == event.digests["sha256"] else ""


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
