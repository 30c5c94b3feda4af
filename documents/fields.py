# SPDX-License-Identifier: Apache-2.0
"""A strict reader of one decoded object: every member is taken once, checked, and none is left over.

Each ``take_*`` method names the member, its type and its bounds. A missing member, a wrong type, a value out of
bounds and, at ``finish``, an unknown member are all refused. This module does not decode bytes (``canonical`` does)
and does no I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from documents.canonical import Json, decode, malformed
from documents.errors import DocumentError, DocumentNewer

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""Names of VMs, channels and the like: safe in a path, a URL, a domain name and a log line."""

SLASHED = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(/[a-z0-9][a-z0-9._-]{0,62}){0,3}")
"""Names of components and artifacts: up to four NAME-like parts, no part starting with a dot."""

HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2066-\u2069\ufeff]*")
"""Text for people: no control characters, nothing that reorders or hides what stands around it."""

ABSOLUTE_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9@%+=:,._~-]+)+")


class Fields:
    """The members of one object while they are being read.

    Args:
        untrusted: the decoded object.
        what: what the object is, named in errors.
    """

    def __init__(self, untrusted: Json, what: str) -> None:
        if not isinstance(untrusted, dict):
            raise malformed(what, "it is not an object")
        self._left = dict(untrusted)
        self._what = what

    def finish(self) -> None:
        """Refuse members that nobody took."""
        if self._left:
            raise self.wrong(min(self._left), "is unknown")

    def wrong(self, name: str, why: str) -> DocumentError:
        """The error for one member."""
        return malformed(self._what, f"member {name[:60]!r} {why}")

    def has(self, name: str) -> bool:
        """Whether an optional member is there."""
        return name in self._left

    def take(self, name: str) -> Json:
        """Take a member of any type; the caller checks it."""
        if name not in self._left:
            raise self.wrong(name, "is missing")
        return self._left.pop(name)

    def take_text(self, name: str, pattern: re.Pattern[str] = TEXT, limit: int = 256, *, empty: bool = False) -> str:
        """Take a text that matches ``pattern`` as a whole and has at most ``limit`` characters."""
        value = self.take(name)
        if not isinstance(value, str):
            raise self.wrong(name, "is not a text")
        if len(value) > limit:
            raise self.wrong(name, f"has more than {limit} characters")
        if (not value and not empty) or (value and not pattern.fullmatch(value)):
            raise self.wrong(name, "is not in its form")
        return value

    def take_name(self, name: str) -> str:
        """Take a name such as a VM's or a channel's."""
        return self.take_text(name, NAME, 63)

    def take_digest(self, name: str) -> str:
        """Take a SHA-256 digest: 64 lower-case hexadecimal characters."""
        return self.take_text(name, HEX_SHA256, 64)

    def take_choice(self, name: str, choices: Iterable[str]) -> str:
        """Take one of the texts in ``choices``."""
        value = self.take(name)
        if not isinstance(value, str) or value not in tuple(choices):
            raise self.wrong(name, "is not one of the known values")
        return value

    def take_int(self, name: str, low: int, high: int) -> int:
        """Take an integer between ``low`` and ``high``, both included."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "is not an integer")
        if not low <= value <= high:
            raise self.wrong(name, f"is not between {low} and {high}")
        return value

    def take_bool(self, name: str) -> bool:
        """Take true or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "is not true or false")
        return value

    def take_bytes(self, name: str, limit: int) -> bytes:
        """Take base64 (RFC 4648 section 4, padded, canonical) of at most ``limit`` bytes; may be empty."""
        value = self.take(name)
        if not isinstance(value, str) or len(value) > 4 * (limit // 3 + 1):
            raise self.wrong(name, f"is not base64 of at most {limit} bytes")
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise self.wrong(name, "is not base64") from error
        # Without a character too many, only the bits that the last four characters do not need can be other ones.
        last = len(data) - (len(data) - 1) % 3 - 1 if data else 0
        whole = len(value) == 4 * ((len(data) + 2) // 3) and encode_bytes(data[last:]) == value[-4:]
        if len(data) > limit or not whole:
            raise self.wrong(name, f"is not canonical base64 of at most {limit} bytes")
        return data

    def take_list(self, name: str, item: Callable[[Json], T], limit: int) -> tuple[T, ...]:
        """Take a list of at most ``limit`` items, each read by ``item``."""
        value = self.take(name)
        if not isinstance(value, list):
            raise self.wrong(name, "is not a list")
        if len(value) > limit:
            raise self.wrong(name, f"has more than {limit} items")
        return tuple(item(part) for part in value)

    def take_texts(self, name: str, pattern: re.Pattern[str], limit: int, length: int = 256) -> tuple[str, ...]:
        """Take a list of distinct texts that each match ``pattern`` and have at most ``length`` characters."""

        def item(part: Json) -> str:
            if not isinstance(part, str) or len(part) > length or not pattern.fullmatch(part):
                raise self.wrong(name, "has an item that is not in its form")
            return part

        values = self.take_list(name, item, limit)
        self.require_distinct(name, values)
        return values

    def take_ints(self, name: str, low: int, high: int, limit: int) -> tuple[int, ...]:
        """Take a list of distinct integers between ``low`` and ``high``."""

        def item(part: Json) -> int:
            if isinstance(part, bool) or not isinstance(part, int) or not low <= part <= high:
                raise self.wrong(name, f"has an item that is not an integer between {low} and {high}")
            return part

        values = self.take_list(name, item, limit)
        self.require_distinct(name, values)
        return values

    def require_distinct(self, name: str, values: Iterable[object]) -> None:
        """Refuse repeated values."""
        seen = list(values)
        if len(set(seen)) != len(seen):
            raise self.wrong(name, "repeats an item")


def encode_bytes(data: bytes) -> str:
    """The canonical base64 that ``Fields.take_bytes`` reads."""
    return base64.b64encode(data).decode("ascii")


def open_document(untrusted_bytes: bytes, kind: str, version: int, limit: int) -> Fields:
    """Decode a document and check its ``type`` and ``version`` before anything else.

    Args:
        untrusted_bytes: as received.
        kind: the document's type, such as ``vmgate.release``.
        version: the only version that this code reads.
        limit: the most bytes that are parsed.

    Raises:
        DocumentError: malformed, or of another type.
        DocumentTooLarge: over the bound.
        DocumentNewer: its version is above ``version``.
    """
    return open_object(decode(untrusted_bytes, limit, kind), kind, version)


def open_object(untrusted: Json, kind: str, version: int) -> Fields:
    """The same for a document that stands in another one, which was decoded and bounded as a whole."""
    fields = Fields(untrusted, kind)
    fields.take_choice("type", (kind,))
    found = fields.take_int("version", 1, 2**31)
    if found > version:
        raise DocumentNewer(
            f"the {kind} was not read",
            cause=f"it has version {found} and this vmgate reads up to {version}",
            remedy="update vmgate",
        )
    if found < version:
        raise fields.wrong("version", f"is {found}, which nothing wrote")
    return fields
