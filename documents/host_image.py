# SPDX-License-Identifier: Apache-2.0
"""What a host boots: the reference for everything that runs before vmgate, from the firmware to the verified root.

The publisher makes it from the kernel image and the root file system that it signs. Boot log and IMA list of a host
are compared with it; it is no component of the VMM PCR. This module does not read images and does not compare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import HEX_SHA256, Fields

IMAGE_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[!-.0-~]+)+")
"""Absolute, printable ASCII without spaces: systemd's units have backslashes, and one program is named ``[``."""

SECTION = re.compile(r"\.[a-z0-9_]{1,15}")
PHASES = re.compile(r"([a-z-]{1,20}(:[a-z-]{1,20}){0,7})?")
"""Words that systemd-pcrphase extended so far, joined by colons; empty before the first."""

COMMAND_LINE = re.compile(r"[ -~]+")
VARIABLES = ("KEK", "PK", "db", "dbx")
"""The UEFI variables that say whose programs Secure Boot lets run (UEFI 2.10, section 32.6), sorted."""

MAX_STATES = 4
"""Ways in which Secure Boot may be set up: the image's own and those announced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One regular file of the root.

    Attributes:
        path: absolute.
        fsverity: fs-verity digest, as vmgate measures files.
        sha256: SHA-256 of the whole file, as the kernel's IMA records it.
    """

    path: str
    fsverity: str
    sha256: str

    @classmethod
    def read(cls, untrusted: Json) -> ImageFile:
        """Read one entry."""
        fields = Fields(untrusted, "image file")
        entry = cls(
            path=fields.take_text("path", IMAGE_PATH, 255),
            fsverity=fields.take_digest("fsverity"),
            sha256=fields.take_digest("sha256"),
        )
        fields.finish()
        return entry

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"path": self.path, "fsverity": self.fsverity, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareEvents:
    """One firmware, by what it extends PCR 0 with.

    Attributes:
        name: for people, such as ``X1 BIOS 1.42``.
        sha256: digest of each event but the separator, in order.
    """

    name: str
    sha256: tuple[str, ...]

    @classmethod
    def read(cls, untrusted: Json) -> FirmwareEvents:
        """Read one entry."""
        fields = Fields(untrusted, "firmware")
        entry = cls(
            name=fields.take_text("name", limit=60),
            sha256=fields.take_list("sha256", lambda part: _read_digest(part, fields), 100),
        )
        if not entry.sha256:
            raise fields.wrong("sha256", "is empty")
        fields.finish()
        return entry

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, "sha256": list(self.sha256)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootState:
    """One way in which Secure Boot may be set up, with what PCR 7 gets for it. Digests are SHA-256.

    Attributes:
        variables: (name, digest of the data, digest of the whole UEFI_VARIABLE_DATA) of each of ``VARIABLES``.
        authority: digest of the EFI_SIGNATURE_DATA in db that vouches for the kernel image's signer.
        authority_event: digest of the UEFI_VARIABLE_DATA with which firmware measures that.
    """

    variables: tuple[tuple[str, str, str], ...]
    authority: str
    authority_event: str

    @property
    def digests(self) -> tuple[tuple[str, str], ...]:
        """(name, digest of the data) of each variable, as in ``HostImage.variables``."""
        return tuple((name, digest) for name, digest, _ in self.variables)

    @classmethod
    def read(cls, untrusted: Json) -> SecureBootState:
        """Read one state."""
        fields = Fields(untrusted, "Secure Boot state")
        state = cls(
            variables=fields.take_list("variables", _read_measured, len(VARIABLES)),
            authority=fields.take_digest("authority"),
            authority_event=fields.take_digest("authority_event"),
        )
        if tuple(name for name, _, _ in state.variables) != VARIABLES:
            raise fields.wrong("variables", "does not name KEK, PK, db and dbx, in that order")
        fields.finish()
        return state

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "variables": [{"name": name, "sha256": data, "event": event} for name, data, event in self.variables],
            "authority": self.authority,
            "authority_event": self.authority_event,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HostImage(Document):
    """A unified kernel image and the root that it starts. Digests are SHA-256, 64 hexadecimal characters.

    Attributes:
        boot_application: Authenticode digest of the kernel image, as firmware measures it into PCR 4.
        sections: (name, digest of the content) of its PE sections in the order in which the stub measures them into
            PCR 11, such as ``.linux``, ``.osrel``, ``.cmdline``, ``.initrd``.
        command_line: what ``.cmdline`` holds, without the end of line.
        phases: the boot phases in which the host's keys open, in the order of the boot, such as ``sysinit:ready``.
        variables: (name, digest of the data) of each of ``VARIABLES``; SecureBoot itself must be on.
        authority: digest of the EFI_SIGNATURE_DATA in db that vouches for the kernel image's signer.
        root_hash: dm-verity root hash, which the command line must name as ``roothash=``.
        firmware: accepted values of PCR 0; empty where no publisher vouches for any firmware.
        files: what the root can execute, map or load, and its ``/etc``; sorted by path.
        firmware_events: accepted firmware, event by event; empty (and then absent) where it is not told so.
        secure_boot: the state of ``variables`` and ``authority`` first, then those that are announced: a host may
            change from each to a later one while it boots this image. Absent where PCR 7 is not to be predicted.
    """

    TYPE: ClassVar[str] = "vmgate.host-image"
    LIMIT: ClassVar[int] = 16_000_000

    boot_application: str
    sections: tuple[tuple[str, str], ...]
    command_line: str
    phases: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    authority: str
    root_hash: str
    firmware: tuple[str, ...]
    files: tuple[ImageFile, ...]
    firmware_events: tuple[FirmwareEvents, ...] = ()
    secure_boot: tuple[SecureBootState, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        says_secure_boot = fields.has("secure_boot")
        image = cls(
            boot_application=fields.take_digest("boot_application"),
            sections=fields.take_list("sections", _read_section, 32),
            command_line=fields.take_text("command_line", COMMAND_LINE, 4_000),
            phases=fields.take_list("phases", lambda untrusted: _read_phase(untrusted, fields), 16),
            variables=fields.take_list("variables", _read_variable, len(VARIABLES)),
            authority=fields.take_digest("authority"),
            root_hash=fields.take_digest("root_hash"),
            firmware=fields.take_texts("firmware", HEX_SHA256, 100, 64),
            files=fields.take_list("files", ImageFile.read, 50_000),
            firmware_events=_read_firmware_events(fields),
            secure_boot=(fields.take_list("secure_boot", SecureBootState.read, MAX_STATES) if says_secure_boot else ()),
        )
        if says_secure_boot and not image.secure_boot:
            raise fields.wrong("secure_boot", "is there and empty")
        image._require_consistent(fields)
        return image

    def _require_consistent(self, fields: Fields) -> None:
        fields.require_distinct("sections", [name for name, _ in self.sections])
        fields.require_distinct("phases", self.phases)
        if not self.phases:
            raise fields.wrong("phases", "is empty, so that no key would ever open")
        if not {".linux", ".cmdline", ".initrd"} <= {name for name, _ in self.sections}:
            raise fields.wrong("sections", "lacks the kernel, its command line or its initrd")
        if tuple(name for name, _ in self.variables) != VARIABLES:
            raise fields.wrong("variables", "does not name KEK, PK, db and dbx, in that order")
        fields.require_distinct("secure_boot", self.secure_boot)
        if self.secure_boot and (self.secure_boot[0].digests, self.secure_boot[0].authority) != (
            self.variables,
            self.authority,
        ):
            raise fields.wrong("secure_boot", "does not begin with the variables and authority of the image")
        hashes = [word for word in self.command_line.split() if word.startswith("roothash=")]
        if hashes != [f"roothash={self.root_hash}"]:
            raise fields.wrong("command_line", "does not name the root hash, once")
        paths = [entry.path for entry in self.files]
        if not paths or paths != sorted(set(paths)):
            raise fields.wrong("files", "is empty or not sorted by path")

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "boot_application": self.boot_application,
            "sections": [{"name": name, "sha256": digest} for name, digest in self.sections],
            "command_line": self.command_line,
            "phases": list(self.phases),
            "variables": [{"name": name, "sha256": digest} for name, digest in self.variables],
            "authority": self.authority,
            "root_hash": self.root_hash,
            "firmware": list(self.firmware),
            "files": [entry.members() for entry in self.files],
            **({"firmware_events": [known.members() for known in events]} if (events := self.firmware_events) else {}),
            **({"secure_boot": [state.members() for state in self.secure_boot]} if self.secure_boot else {}),
        }


def _read_section(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "section")
    pair = (fields.take_text("name", SECTION, 16), fields.take_digest("sha256"))
    fields.finish()
    return pair


def _read_variable(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "variable")
    pair = (fields.take_choice("name", VARIABLES), fields.take_digest("sha256"))
    fields.finish()
    return pair


def _read_measured(untrusted: Json) -> tuple[str, str, str]:
    fields = Fields(untrusted, "variable")
    measured = (fields.take_choice("name", VARIABLES), fields.take_digest("sha256"), fields.take_digest("event"))
    fields.finish()
    return measured


def _read_phase(untrusted: Json, fields: Fields) -> str:
    if not isinstance(untrusted, str) or not PHASES.fullmatch(untrusted):
        raise fields.wrong("phases", "has an item that is not in its form")
    return untrusted


def _read_firmware_events(fields: Fields) -> tuple[FirmwareEvents, ...]:
    if not fields.has("firmware_events"):
        return ()
    known = fields.take_list("firmware_events", FirmwareEvents.read, 100)
    fields.require_distinct("firmware_events", [entry.name for entry in known])
    fields.require_distinct("firmware_events", [entry.sha256 for entry in known])
    if not known:
        raise fields.wrong("firmware_events", "is there and empty")
    return known


def _read_digest(untrusted: Json, fields: Fields) -> str:
    if not isinstance(untrusted, str) or not HEX_SHA256.fullmatch(untrusted):
        raise fields.wrong("sha256", "has an item that is no digest")
    return untrusted
