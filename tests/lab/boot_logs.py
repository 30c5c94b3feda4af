# SPDX-License-Identifier: Apache-2.0
"""Machines that boot a host image: their boot log, their IMA list and what their TPM then holds, from contents.

``MACHINE`` boots as its host image says; a story changes one thing of it with ``dataclasses.replace``. All is made up
and small, but whole: a software TPM that is extended with ``events`` and ``words`` holds ``pcrs``. The arithmetic is
written out here and shares no code with the readers.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from content.fsverity import digest_bytes
from documents.host_image import VARIABLES, HostImage, ImageFile, SecureBootState
from lab import event_logs as write

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
GUIDS = {"SecureBoot": GLOBAL, "PK": GLOBAL, "KEK": GLOBAL, "db": SECURITY, "dbx": SECURITY}
BANKS = ("sha1", "sha256")

POST_CODE = 0x00000001
EVENT_TAG = 0x00000006
IPL = 0x0000000D
DRIVER_CONFIG = 0x80000001
BOOT_VARIABLE = 0x80000002
APPLICATION = 0x80000003
DRIVER = 0x80000004
GPT = 0x80000006
ACTION = 0x80000007
AUTHORITY = 0x800000E0
CALLING = b"Calling EFI Application from Boot Option"

VMGATE = "/usr/lib/vmgate/bin/vmgate"
LIBVIRTD = "/usr/sbin/libvirtd"
QEMU = "/usr/bin/qemu-system-x86_64"
ROOT_HASH = hashlib.sha256(b"root").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of the firmware, the kernel image or its stub."""

    pcr: int
    kind: int
    digests: Mapping[str, bytes]
    data: bytes

    def written(self) -> bytes:
        """As it stands in the log."""
        return write.event2(self.pcr, self.kind, self.digests, self.data)


def event(pcr: int, kind: int, content: bytes, data: bytes | None = None) -> Event:
    """An event that measures a content, and tells it unless the log tells something else."""
    digests = {alg: hashlib.new(alg, content).digest() for alg in BANKS}
    return Event(pcr=pcr, kind=kind, digests=digests, data=content if data is None else data)


def program(pcr: int, kind: int, authenticode: str) -> Event:
    """An event that measures a program by a digest that is not of the whole file."""
    digests = {"sha1": hashlib.sha1(authenticode.encode()).digest(), "sha256": bytes.fromhex(authenticode)}
    return Event(pcr=pcr, kind=kind, digests=digests, data=b"where it was loaded from")


def variable(name: str, data: bytes, guid: bytes | None = None) -> bytes:
    """UEFI_VARIABLE_DATA."""
    head = (GUIDS[name] if guid is None else guid) + struct.pack("<QQ", len(name), len(data))
    return head + name.encode("utf-16-le") + data


def tagged(tag: int, data: bytes) -> bytes:
    """The data of an EV_EVENT_TAG."""
    return struct.pack("<II", tag, len(data)) + data


def initrd_event(content: bytes) -> Event:
    """What the kernel's stub measures of an initrd."""
    return event(9, EVENT_TAG, content, tagged(0x8F3B22EC, b"Linux initrd\0"))


def image_load(path: bytes) -> bytes:
    """UEFI_IMAGE_LOAD_EVENT."""
    return struct.pack("<QQQQ", 0x7C028018, 4096, 0, len(path)) + path


def node(kind: int, subtype: int, body: bytes) -> bytes:
    """A node of a device path."""
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def section(name: str, content: bytes) -> tuple[Event, Event]:
    """What systemd's stub measures of one section."""
    told = (name + "\0").encode("utf-16-le")
    return event(11, IPL, name.encode() + b"\0", told), event(11, IPL, content, told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine and what it boots.

    Attributes:
        secure_boot: data of the variable.
        variables: data of PK, KEK, db and dbx.
        signature: the EFI_SIGNATURE_DATA in db that vouches for the kernel image.
        application: Authenticode digest of the kernel image, hexadecimal.
        sections: of the kernel image, in the stub's order.
        files: what its root holds.
        ran: the paths that the kernel measured, in order.
        phase: how far systemd came, such as ``sysinit:ready``.
        firmware: what PCR 0 is made of.
        locality: of TPM2_Startup; None tells none.
        more: events behind all others.
    """

    secure_boot: bytes = b"\1"
    variables: Mapping[str, bytes] = field(
        default_factory=lambda: {name: f"the keys of {name}".encode() for name in VARIABLES}
    )
    signature: bytes = b"owner of 16 byte" + b"certificate of the publisher"
    application: str = hashlib.sha256(b"kernel image").hexdigest()
    sections: tuple[tuple[str, bytes], ...] = (
        (".linux", b"the kernel"),
        (".osrel", b"ID=debian\n"),
        (".cmdline", f"roothash={ROOT_HASH} quiet".encode()),
        (".initrd", b"the initrd"),
    )
    files: Mapping[str, bytes] = field(
        default_factory=lambda: {
            path: f"what {path} holds".encode()
            for path in ("/usr/lib/systemd/systemd", VMGATE, LIBVIRTD, QEMU, "/etc/libvirt/qemu.conf")
        }
    )
    ran: tuple[str, ...] = ("/usr/lib/systemd/systemd", VMGATE, LIBVIRTD, QEMU)
    phase: str = "sysinit:ready"
    firmware: bytes = b"firmware 1"
    locality: int | None = None
    more: tuple[Event, ...] = ()

    def image(self, *, accepted: bool = True, announced: tuple[Machine, ...] = ()) -> HostImage:
        """The host image that says just what this machine boots, and which changes of Secure Boot are announced.

        ``accepted`` vouches for its firmware too.
        """
        return HostImage(
            boot_application=self.application,
            sections=tuple((name, hashlib.sha256(content).hexdigest()) for name, content in self.sections),
            command_line=dict(self.sections)[".cmdline"].decode(),
            phases=("sysinit", "sysinit:ready"),
            variables=tuple((name, hashlib.sha256(self.variables[name]).hexdigest()) for name in VARIABLES),
            authority=hashlib.sha256(self.signature).hexdigest(),
            root_hash=ROOT_HASH,
            firmware=(self.pcrs()[0].hex(),) if accepted else (),
            files=tuple(
                ImageFile(path=path, fsverity=digest_bytes(content), sha256=hashlib.sha256(content).hexdigest())
                for path, content in sorted(self.files.items())
            ),
            secure_boot=tuple(dict.fromkeys(machine._state() for machine in (self, *announced))),
        )

    def _state(self) -> SecureBootState:
        return SecureBootState(
            variables=tuple(
                (name, _sha256(self.variables[name]), _sha256(variable(name, self.variables[name])))
                for name in VARIABLES
            ),
            authority=_sha256(self.signature),
            authority_event=_sha256(variable("db", self.signature)),
        )

    def events(self) -> tuple[Event, ...]:
        """What is extended until the kernel runs, in order."""
        return (
            event(0, write.S_CRTM_VERSION, self.firmware),
            event(7, DRIVER_CONFIG, variable("SecureBoot", self.secure_boot)),
            *(event(7, DRIVER_CONFIG, variable(name, self.variables[name])) for name in ("PK", "KEK", "db", "dbx")),
            event(7, write.SEPARATOR, bytes(4)),
            program(2, DRIVER, hashlib.sha256(b"driver").hexdigest()),
            event(1, BOOT_VARIABLE, b"BootOrder"),
            event(4, ACTION, CALLING),
            *(event(pcr, write.SEPARATOR, bytes(4)) for pcr in range(7)),
            event(7, AUTHORITY, variable("db", self.signature)),
            event(5, GPT, b"partitions"),
            program(4, APPLICATION, self.application),
            *(measured for name, content in self.sections for measured in section(name, content)),
            *self.given(),
            event(5, ACTION, b"Exit Boot Services Returned with Success"),
            *self.more,
        )

    def given(self) -> tuple[Event, ...]:
        """What the kernel's own stub measures of its command line and its initrd."""
        parts = dict(self.sections)
        options = (parts[".cmdline"].decode() + "\0").encode("utf-16-le")
        initrd = (initrd_event(parts[".initrd"]),) if ".initrd" in parts else ()
        return (event(9, EVENT_TAG, options, tagged(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0")), *initrd)

    def words(self) -> tuple[bytes, ...]:
        """What systemd extends PCR 11 with, without a log."""
        return tuple(word.encode() for word in self.phase.split(":")) if self.phase else ()

    def boot_log(self) -> bytes:
        """The crypto-agile log."""
        return log_of(self.events(), self.locality)

    def ima_entries(self, template: bytes = b"ima-sig") -> tuple[bytes, ...]:
        """The template data of each entry."""
        pcrs = self._before_kernel()
        aggregate = hashlib.sha256(b"".join(pcrs[index] for index in range(10))).digest()
        files = ((path, hashlib.sha256(self.files.get(path, b"of the attacker")).digest()) for path in self.ran)
        return tuple(ima_file(name, digest, template) for name, digest in (("boot_aggregate", aggregate), *files))

    def ima_list(self, template: bytes = b"ima-sig") -> bytes:
        """The kernel's binary list."""
        return b"".join(write.ima_binary(10, template, data) for data in self.ima_entries(template))

    def pcrs(self) -> dict[int, bytes]:
        """What the TPM holds then: PCR 0 to 11 of the SHA-256 bank."""
        values = self._before_kernel()
        for word in self.words():
            values[11] = extended(values[11], hashlib.sha256(word).digest())
        for data in self.ima_entries():
            values[10] = extended(values[10], hashlib.sha256(data).digest())
        return values

    def matches(self) -> Callable[[Mapping[int, bytes]], bool]:
        """Tells whether values are those of the TPM."""
        held = self.pcrs()
        return lambda values: dict(values) == held

    def _before_kernel(self) -> dict[int, bytes]:
        values = {index: bytes(32) for index in range(12)}
        values[0] = bytes(31) + bytes([self.locality or 0])
        for measured in self.events():
            values[measured.pcr] = extended(values[measured.pcr], measured.digests["sha256"])
        return values


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def extended(value: bytes, digest: bytes) -> bytes:
    """The value of a PCR of the SHA-256 bank after it was extended."""
    return hashlib.sha256(value + digest).digest()


def log_of(events: Sequence[Event], locality: int | None = None) -> bytes:
    """A crypto-agile log of events."""
    return b"".join(_records(events, locality))


def _records(events: Sequence[Event], locality: int | None) -> Iterator[bytes]:
    yield write.header(BANKS)
    if locality is not None:
        digests = {alg: bytes(write.SIZE[alg]) for alg in BANKS}
        yield write.event2(0, write.NO_ACTION, digests, write.startup_locality(locality))
    for measured in events:
        yield measured.written()


def ima_file(name: str, digest: bytes, template: bytes = b"ima-sig", alg: bytes = b"sha256") -> bytes:
    """The template data of a file."""
    signature = (b"",) if template == b"ima-sig" else ()
    return write.ima_data(alg + b":\0" + digest, name.encode("latin-1") + b"\0", *signature)


MACHINE = Machine()
IMAGE = MACHINE.image()
