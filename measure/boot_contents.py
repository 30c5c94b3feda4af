# SPDX-License-Identifier: Apache-2.0
"""What the data of single boot events says: places of programs, texts, tags, and the reference manifests of firmware.

Source: TCG PC Client Platform Firmware Profile 1.06, 10.2.3 (UEFI_IMAGE_LOAD_EVENT), 10.4.2 (tagged events) and 10.4.5
(SP 800-155); UEFI 2.10, 10.3 (device paths); GRUB's tpm module; systemd-stub(7).

Only ``measured_text`` tells what a digest proves. All other data may be of the log's writer, is for people, and is
never judged. Data that is not in its form says nothing: no function raises. This module does no I/O.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

LONGEST_TEXT: Final = 16_384
"""Bytes of a text that is looked at: four times the longest command line of a host image, in UTF-16 and more."""

LINUX_INITRD: Final = 0x8F3B22EC
LINUX_LOAD_OPTIONS: Final = 0x8F3B22ED
"""Tags of the kernel's EFI stub, for the initrd and the command line that it was given (Linux 6.0, efistub.h)."""

_PREFIXES: Final = (
    (b"kernel_cmdline: ", True),
    (b"grub_kernel_cmdline ", True),
    (b"grub_cmd: ", False),
    (b"grub_cmd ", False),
)
"""How GRUB calls texts (its own releases, and Red Hat's), and whether they are the kernel's command line."""

_MOST_NODES: Final = 32
_LONGEST_PLACE: Final = 300
_IMAGE_LOAD: Final = struct.Struct("<QQQQ")
_MANIFESTS: Final = (b"SP800-155 Event\0", b"SP800-155 Event2", b"SP800-155 Event3")
_STRINGS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text that a digest is of.

    Attributes:
        text: the text.
        command_line: a boot loader or stub calls it the kernel's command line.
    """

    text: str
    command_line: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Where firmware says that its reference values are. Covered by no digest: a hint for people.

    Attributes:
        guid: of the manifest.
        firmware: manufacturer, model and version of the platform, manufacturer and version of the firmware; those that
            are told, in one line.
    """

    guid: str
    firmware: str


def measured_text(data: bytes, digest: bytes) -> Text | None:
    """The text in an event of a boot loader, a stub or firmware that the SHA-256 digest is of; None for none.

    GRUB's data tells what the text is for, in words that no digest covers, and ends with a NUL that is measured or not.
    A stub measures UTF-16 with its NUL, and calls nothing but command lines by their whole text.
    """
    if not data or len(data) > LONGEST_TEXT:
        return None
    # The second byte tells UTF-16, in which each command line begins with ASCII.
    if data[1:2] == b"\0" and len(data) > 2:
        return _stub_text(data, digest)
    content, command_line = data, False
    for prefix, is_command_line in _PREFIXES:
        if data.startswith(prefix):
            content, command_line = data[len(prefix) :], is_command_line
            break
    bare = content.removesuffix(b"\0")
    if _sha256(bare) != digest and _sha256(content) != digest:
        return None
    text = _ascii(bare)
    return None if text is None else Text(text=text, command_line=command_line)


def _stub_text(data: bytes, digest: bytes) -> Text | None:
    # systemd's older stubs leave the last byte of the NUL out of what they tell.
    wide = data + bytes(len(data) & 1)
    text = _utf16(wide) if _sha256(wide) == digest else None
    return None if text is None else Text(text=text, command_line=True)


def load_options(command_line: str) -> str:
    """What the kernel's EFI stub measures of a command line: its SHA-256 in UTF-16 with the NUL, hexadecimal."""
    return _sha256((command_line + "\0").encode("utf-16-le")).hex()


def tag_of(data: bytes) -> int | None:
    """The identifier of an EV_EVENT_TAG; None where the data is none."""
    if len(data) < 8 or int.from_bytes(data[4:8], "little") != len(data) - 8:
        return None
    return int.from_bytes(data[:4], "little")


def place_of(data: bytes) -> str:
    """Where a program was loaded from, as the event of a program tells it; empty where it tells nothing.

    Some loaders leave bytes behind the path, or no path: their events are as right as others.
    """
    if len(data) < _IMAGE_LOAD.size:
        return ""
    length = _IMAGE_LOAD.unpack_from(data)[3]
    path = data[_IMAGE_LOAD.size :]
    return _cut("/".join(_nodes(path[:length]))) if length <= len(path) else ""


def manifest_of(data: bytes) -> Manifest | None:
    """The manifest that an EV_NO_ACTION event names; None for an event of another kind or form."""
    if data[:16] not in _MANIFESTS or len(data) < 36:
        return None
    guid = str(uuid.UUID(bytes_le=data[20:36]))
    told = [] if data[:16] == _MANIFESTS[0] else list(_strings(data, 36))
    return Manifest(guid=guid, firmware=_cut(" ".join(text for text in told if text)))


def _strings(data: bytes, at: int) -> Iterator[str]:
    """Five texts, each behind its length in one byte; behind the fourth stands a number."""
    for number in range(_STRINGS):
        if at >= len(data):
            return
        end = at + 1 + data[at]
        yield _shown(data[at + 1 : end].rstrip(b"\0").decode("latin-1"))
        at = end + (4 if number == _STRINGS - 2 else 0)


def _nodes(path: bytes) -> Iterator[str]:
    """The nodes of a device path that people know; of the others their type."""
    at = 0
    for _ in range(_MOST_NODES):
        if at + 4 > len(path):
            return
        kind, length = (path[at], path[at + 1]), int.from_bytes(path[at + 2 : at + 4], "little")
        if kind[0] == 0x7F or length < 4 or at + length > len(path):
            return
        body = path[at + 4 : at + length]
        known = _NODES.get(kind)
        if known is None or len(body) < known[0]:
            yield f"Path({kind[0]},{kind[1]})"
        else:
            yield known[1](body)
        at += length


def _pci(body: bytes) -> str:
    return f"Pci({body[1]},{body[0]})"


def _disk(body: bytes) -> str:
    """A partition; the last byte but one tells whether it is named by a GUID."""
    number = int.from_bytes(body[:4], "little")
    return f"HD({number},{uuid.UUID(bytes_le=body[20:36])})"


def _file(body: bytes) -> str:
    return _shown(body.decode("utf-16-le", "replace").split("\0", 1)[0])


def _guid(name: str) -> Callable[[bytes], str]:
    return lambda body: f"{name}({uuid.UUID(bytes_le=body[:16])})"


_NODES: Final = MappingProxyType(
    {
        (0x01, 0x01): (2, _pci),
        (0x04, 0x01): (38, _disk),
        (0x04, 0x04): (2, _file),
        (0x04, 0x06): (16, _guid("FvFile")),
        (0x04, 0x07): (16, _guid("Fv")),
    }
)
"""Type and subtype of a node: the least bytes of its body, and how it is told."""


def _ascii(data: bytes) -> str | None:
    if not data.isascii():
        return None
    text = data.decode("ascii")
    return text if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable() else None


def _utf16(data: bytes) -> str | None:
    """Text that ends with its NUL: without one, any even number of bytes would be a text."""
    try:
        text, end = data[:-2].decode("utf-16-le"), data[-2:]
    except UnicodeDecodeError:
        return None
    return text if text and end == b"\0\0" and text.isprintable() else None


def _shown(text: str) -> str:
    """A text for people: what is not printable ASCII is escaped."""
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text[:_LONGEST_PLACE])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_PLACE else text[: _LONGEST_PLACE - 3] + "..."


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
