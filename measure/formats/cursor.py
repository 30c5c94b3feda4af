# SPDX-License-Identifier: Apache-2.0
"""A position in untrusted bytes that never reads past their end, and the one error for a log that cannot be used.

A length is compared with what is left before anything is taken, so a forged length costs nothing. All integers are
little-endian. This module does not know any log format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from measure.errors import LogRefused

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of one kind of log is read.

    Attributes:
        octets: the most bytes of a log.
        events: the most events of a log.
    """

    octets: int
    events: int


def refused(what: str, cause: str) -> LogRefused:
    """The error for a log that is not what its format says.

    Args:
        what: the kind of log, such as ``boot log``.
        cause: what is wrong with it.
    """
    return LogRefused(f"the {what} was refused", cause=cause, remedy="take the log from the machine again")


class Cursor:
    """The bytes of one log while they are being read.

    Args:
        untrusted: the whole log.
        what: the kind of log, named in errors.
        bounds: a log with more bytes is refused here.

    Raises:
        LogRefused: the log is empty or over the bound; so do all methods when too few bytes are left.
    """

    __slots__ = ("_end", "_untrusted", "offset", "what")

    def __init__(self, untrusted: bytes, what: str, bounds: Bounds) -> None:
        self.what = what
        self.offset = 0
        self._untrusted = untrusted
        self._end = len(untrusted)
        if not untrusted:
            raise self.refused("it is empty")
        if self._end > bounds.octets:
            raise self.refused(f"it has {self._end} bytes and the bound is {bounds.octets}")

    def refused(self, cause: str) -> LogRefused:
        """The error for this log, naming where the reader stood."""
        return refused(self.what, f"at byte {self.offset}, {cause}" if self.offset else cause)

    def left(self) -> int:
        """Bytes that were not read yet."""
        return self._end - self.offset

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self._advance(count)
        return self._untrusted[start : self.offset]

    def block(self) -> bytes:
        """The bytes whose length stands before them as four bytes."""
        return self.take(self.u32())

    def u8(self) -> int:
        """The next byte."""
        return self._untrusted[self._advance(1)]

    def u16(self) -> int:
        """The next two bytes as an integer."""
        return int(_U16.unpack_from(self._untrusted, self._advance(2))[0])

    def u32(self) -> int:
        """The next four bytes as an integer."""
        return int(_U32.unpack_from(self._untrusted, self._advance(4))[0])

    def _advance(self, count: int) -> int:
        """Where the next ``count`` bytes start, once they are known to be there."""
        start = self.offset
        if count > self._end - start:
            raise self.refused(f"{count} bytes should follow and {self._end - start} are left")
        self.offset = start + count
        return start
