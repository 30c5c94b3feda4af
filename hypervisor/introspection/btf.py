# SPDX-License-Identifier: Apache-2.0
"""BTF, in which a kernel describes its own types: where the members of a structure are.

Source: Linux ``Documentation/bpf/btf.rst``. Functions, variables and enumerations are skipped. The types of one kernel
only, not those of its modules.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from hypervisor.errors import TypesMalformed

MAX_BYTES = 32 * 1024 * 1024
MAX_TYPES = 1_000_000
MAX_DEPTH = 8
"""Of nameless structures in each other."""
MAX_WORK = 20_000
"""Members that are looked at to answer one question."""
MAGIC = b"\x9f\xeb\x01\x00\x18\x00\x00\x00\x00\x00\x00\x00"
"""Magic number, version 1, no flags, a header of 24 bytes, types right behind it."""

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_STRUCT, _UNION = 4, 5
# Bytes behind a type: fixed ones, and those for each of its vlen parts.
_BEHIND = {
    1: (4, 0), 2: (0, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 7: (0, 0), 8: (0, 0), 9: (0, 0), 10: (0, 0),
    11: (0, 0), 12: (0, 0), 13: (0, 8), 14: (4, 0), 15: (0, 12), 16: (0, 0), 17: (4, 0), 18: (0, 0), 19: (0, 12),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Type:
    name: int
    kind: int
    parts: int
    bits: bool
    size: int
    at: int


def extent(untrusted: bytes, at: int = 0) -> int:
    """How many bytes the BTF that begins at ``at`` takes.

    Raises:
        TypesMalformed: none begins there.
    """
    if at + _HEADER.size > len(untrusted) or not untrusted.startswith(MAGIC, at):
        raise _malformed("it has no header of version 1")
    types, strings, length = _parts(untrusted, at)
    total = _HEADER.size + strings + length
    if strings != types or total > MAX_BYTES or at + total > len(untrusted) or not length:
        raise _malformed("its parts are not one behind the other")
    return total


def _parts(untrusted: bytes, at: int) -> tuple[int, int, int]:
    """Bytes of types, offset and bytes of the strings."""
    _, _, _, _, _, types, strings, length = _HEADER.unpack_from(untrusted, at)
    return int(types), int(strings), int(length)


class Types:
    """The types in one BTF.

    Args:
        untrusted: the bytes, and nothing behind them.

    Attributes:
        digest: SHA-256 of them, lower case hex.

    Raises:
        TypesMalformed: they are no BTF.
    """

    def __init__(self, untrusted: bytes) -> None:
        if extent(untrusted) != len(untrusted):
            raise _malformed("something lies behind it")
        self.digest = hashlib.sha256(untrusted).hexdigest()
        self._data = untrusted
        types, _, _ = _parts(untrusted, 0)
        self._strings = _HEADER.size + types
        # Number 0 is void.
        self._types = [_Type(0, 0, 0, bits=False, size=0, at=0)]
        self._read(_HEADER.size, self._strings)
        self._structures: dict[bytes, int] = {}
        for number, found in enumerate(self._types):
            if found.kind == _STRUCT:
                self._structures.setdefault(self._string(found.name), number)

    def _read(self, at: int, end: int) -> None:
        while at < end:
            if at + _TYPE.size > end or len(self._types) >= MAX_TYPES:
                raise _malformed("its types are cut off or too many")
            name, info, size = _TYPE.unpack_from(self._data, at)
            kind, parts = info >> 24 & 31, info & 0xFFFF
            if kind not in _BEHIND:
                raise _malformed(f"it has a type of the unknown kind {kind}")
            self._types.append(_Type(name, kind, parts, bool(info >> 31), size, at + _TYPE.size))
            fixed, each = _BEHIND[kind]
            at += _TYPE.size + fixed + each * parts
        if at != end:
            raise _malformed("its last type is cut off")

    def offset(self, structure: str, member: str) -> int:
        """Where a member is, in bytes from the beginning of its structure.

        Args:
            structure: such as ``task_struct``.
            member: such as ``comm``; one in a nameless structure inside is found too.

        Raises:
            TypesMalformed: there is none, or it is a bit field.
        """
        number = self._structures.get(structure.encode())
        bits = None if number is None else self._member(number, member.encode())
        if bits is None or bits % 8:
            raise _malformed(f"it has no {structure}.{member}")
        return bits // 8

    def size(self, structure: str) -> int:
        """Bytes of a structure.

        Raises:
            TypesMalformed: there is none.
        """
        number = self._structures.get(structure.encode())
        if number is None:
            raise _malformed(f"it has no {structure}")
        return self._types[number].size

    def _member(self, number: int, wanted: bytes) -> int | None:
        waiting, work = [(number, 0, 0)], 0
        while waiting:
            number, base, depth = waiting.pop()
            found = self._types[number]
            work += found.parts
            if work > MAX_WORK:
                raise _malformed("a structure has too many members")
            for part in range(found.parts):
                name, kind, offset = _MEMBER.unpack_from(self._data, found.at + part * _MEMBER.size)
                if found.bits and offset >> 24:
                    continue
                offset = base + (offset & 0xFFFFFF if found.bits else offset)
                spelled = self._string(name)
                if spelled == wanted:
                    return int(offset)
                inner = self._types[kind].kind if kind < len(self._types) else 0
                if not spelled and inner in (_STRUCT, _UNION) and depth < MAX_DEPTH:
                    waiting.append((kind, offset, depth + 1))
        return None

    def _string(self, offset: int) -> bytes:
        start = self._strings + offset
        end = self._data.find(b"\0", start, start + 256)
        if offset >= len(self._data) - self._strings or end < 0:
            raise _malformed("a name lies outside")
        return self._data[start:end]


def _malformed(cause: str) -> TypesMalformed:
    return TypesMalformed("the kernel's types were not read", cause=cause, remedy="is the guest a Linux with BTF?")
