# SPDX-License-Identifier: Apache-2.0
"""Giving up everything but reading one open file and answering: for the process that reads a guest's memory.

What is left: no privilege and no way to get one, the user ``nobody``, limits of memory and time, and a seccomp filter
that lets some twenty system calls through. x86-64 only. Sources: Linux seccomp(2), prctl(2), ``linux/filter.h``. Every
step that fails ends the process, before it has seen a byte of the guest.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

NOBODY = 65_534
MEMORY = 2 * 1024**3
"""Bytes of address space besides the mapped core."""
PROCESSOR_SECONDS = 60
_NO_NEW_PRIVS, _SECCOMP, _DUMPABLE, _FILTER = 38, 22, 4, 2
# struct seccomp_data: number of the call, then the architecture.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_AUDIT_ARCH_X86_64 = 0xC000003E
# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 mremap madvise
# getpid futex getrandom clock_gettime exit exit_group sigaltstack newfstatat
CALLS = (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 25, 28, 39, 202, 318, 228, 60, 231, 131, 262)


def confine(extra: int) -> None:
    """Give up everything. There is no way back.

    Args:
        extra: bytes of address space for the mapped core.

    Raises:
        OSError: a step was not possible.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY + extra),
        (resource.RLIMIT_CPU, PROCESSOR_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 8),
    ):
        resource.setrlimit(limit, (value, value))
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    # After the change of users: it is per user.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _prctl(libc, _DUMPABLE, 0)
    _prctl(libc, _NO_NEW_PRIVS, 1)
    code = _program()
    lines = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(lines)))
    _prctl(libc, _SECCOMP, _FILTER, ctypes.addressof(head))


def _program() -> bytes:
    """The filter: another architecture or a call that is not listed ends the process."""
    count = len(CALLS)
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _AUDIT_ARCH_X86_64), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_EQUAL, count - number, 0, call) for number, call in enumerate(CALLS)]
    lines += [(_RETURN, 0, 0, _KILL), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *values):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
