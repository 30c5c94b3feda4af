# SPDX-License-Identifier: Apache-2.0
"""An ELF core of a guest, as QEMU's dump-guest-memory writes it: PT_LOAD segments and one QEMU note a processor.

Sources: System V ABI, chapter 5; QEMU ``target/i386/arch_dump.c`` (QEMUCPUState, version 1). Compressed and paged dumps
are not read. Only the memory of x86-64 is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypervisor.errors import CoreMalformed, MemoryUnreadable
from hypervisor.introspection.memory import Processor

MAX_HEADERS = 4_096
MAX_NOTES = 4 * 1024 * 1024
"""Bytes of all notes; one processor takes some 800."""
MAX_PROCESSORS = 1_024
MAX_READ = 64 * 1024 * 1024
"""Bytes of one read."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_PT_LOAD, _PT_NOTE, _ET_CORE, _EM_X86_64, _PN_XNUM = 1, 4, 4, 62, 0xFFFF
_IDENT = b"\x7fELF\x02\x01\x01"
_STATE_SIZE = 440
# Offsets in QEMUCPUState: 18 registers behind 8 bytes, then ten segments of 24 bytes, the last of them the IDT.
_IDT, _CR = 8 + 18 * 8 + 9 * 24, 8 + 18 * 8 + 10 * 24


@dataclass(frozen=True, slots=True)
class _Segment:
    address: int
    offset: int
    size: int


class ElfCore:
    """A guest's memory and processors in a core.

    Args:
        untrusted: the whole core, such as a view of a mapped file. It must not change while it is read.

    Raises:
        CoreMalformed: it is no such core.
    """

    def __init__(self, untrusted: bytes | memoryview) -> None:
        self._data = memoryview(untrusted).cast("B")
        segments: list[_Segment] = []
        notes: list[_Segment] = []
        for kind, _, offset, _, address, size, _, _ in self._programs():
            if kind not in (_PT_LOAD, _PT_NOTE) or not size:
                continue
            if offset + size > len(self._data):
                raise _malformed("a segment reaches beyond its end")
            (segments if kind == _PT_LOAD else notes).append(_Segment(address, offset, size))
        self._segments = sorted(segments, key=lambda segment: segment.address)
        for before, after in zip(self._segments, self._segments[1:], strict=False):
            if before.address + before.size > after.address:
                raise _malformed("two segments overlap")
        self.processors = tuple(self._processors(notes))
        if not self._segments or not self.processors:
            raise _malformed("it has no memory or no processor")

    def read(self, address: int, size: int) -> bytes:
        """See ``PhysicalMemory.read``."""
        if 0 <= size <= MAX_READ:
            for segment in self._segments:
                if segment.address <= address and address + size <= segment.address + segment.size:
                    start = segment.offset + address - segment.address
                    return bytes(self._data[start : start + size])
        raise MemoryUnreadable(
            "the guest's memory was not read", cause=f"{size} bytes at {address:#x} are not memory", remedy="try again"
        )

    def close(self) -> None:
        """Let go of the bytes, so that their mapping can go."""
        self._data.release()

    def _programs(self) -> list[tuple[int, ...]]:
        if len(self._data) < _HEADER.size:
            raise _malformed("it is too short")
        ident, kind, machine, _, _, start, sections, _, _, size, count, _, _, _ = _HEADER.unpack_from(self._data)
        if not ident.startswith(_IDENT) or kind != _ET_CORE or machine != _EM_X86_64 or size != _PROGRAM.size:
            raise _malformed("it is no core of an x86-64 machine")
        if count == _PN_XNUM:
            # More than the field can say: the first section says it (System V ABI, sh_info).
            if sections + _SECTION.size > len(self._data):
                raise _malformed("its count of segments is not there")
            count = _SECTION.unpack_from(self._data, sections)[7]
        if count > MAX_HEADERS or start + count * size > len(self._data):
            raise _malformed("it has too many segments")
        return [_PROGRAM.unpack_from(self._data, start + number * size) for number in range(count)]

    def _processors(self, notes: list[_Segment]) -> list[Processor]:
        if sum(note.size for note in notes) > MAX_NOTES:
            raise _malformed("its notes are too long")
        found: list[Processor] = []
        for note in notes:
            at, end = note.offset, note.offset + note.size
            while at + _NOTE.size <= end:
                name_size, size, _ = _NOTE.unpack_from(self._data, at)
                name = at + _NOTE.size
                state = name + (name_size + 3) // 4 * 4
                at = state + (size + 3) // 4 * 4
                if state + size > end:
                    raise _malformed("a note reaches beyond its segment")
                if bytes(self._data[name : name + min(name_size, 8)]) == b"QEMU\0" and size == _STATE_SIZE:
                    found.append(self._processor(state))
                    if len(found) > MAX_PROCESSORS:
                        raise _malformed("it has too many processors")
        return found

    def _processor(self, at: int) -> Processor:
        _, limit, _, _, base = struct.unpack_from("<IIIIQ", self._data, at + _IDT)
        control = struct.unpack_from("<5Q", self._data, at + _CR)
        return Processor(cr3=control[3], cr4=control[4], idt=base, idt_limit=limit)


def _malformed(cause: str) -> CoreMalformed:
    return CoreMalformed("the memory image was not read", cause=cause, remedy="try again")
