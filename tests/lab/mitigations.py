# SPDX-License-Identifier: Apache-2.0
"""Which protections a program was built with, read from its ELF headers (System V ABI, chapter 5; gABI, DT_FLAGS_1).

For the proxy of FPT_EEM_EXT.1. It reads the file, and says nothing about what the kernel makes of it.
"""

from __future__ import annotations

import struct

LOAD, DYNAMIC, STACK, RELRO = 1, 2, 0x6474E551, 0x6474E552
SHARED_OBJECT = 3
EXECUTABLE, WRITABLE = 1, 2
GUARD = b"\0__stack_chk_fail\0"


def missing(program: bytes) -> list[str]:
    """The protections that a program lacks; empty if it has all."""
    kind = struct.unpack_from("<H", program, 16)[0]
    table, size, count = (struct.unpack_from(form, program, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56)))
    segments = [struct.unpack_from("<II", program, table + size * number) for number in range(count)]
    stack = [flags for segment, flags in segments if segment == STACK]
    lacks = {
        "addresses drawn anew at each start": kind != SHARED_OBJECT,
        "a stack that is no code": not stack or bool(stack[0] & EXECUTABLE),
        "tables that are read-only after linking": RELRO not in [segment for segment, _ in segments],
        "no memory that is written and run": any(
            segment == LOAD and flags & EXECUTABLE and flags & WRITABLE for segment, flags in segments
        ),
        "a guard behind its buffers": GUARD not in program,
    }
    return [name for name, is_missing in lacks.items() if is_missing]
