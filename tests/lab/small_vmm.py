# SPDX-License-Identifier: Apache-2.0
"""The files of a VMM as small as one can be: programs and a loader that are none, and nothing to run."""

from __future__ import annotations

from publisher.vmm_programs import PROGRAMS

COPYRIGHT = b"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: qemu

Files: *
Copyright: 2003 somebody
License: GPL-2+ and Expat

Files: lib/*
License: LGPL-2.1+
 This text is long.
"""
LOADER = {"lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"loader", "usr/share/doc/libc6/copyright": b"for people"}
LOADER_LINK = {"lib64/ld-linux-x86-64.so.2": "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}
FILES = {
    **{f"usr/bin/{name}": f"program {name}".encode() for name in PROGRAMS},
    "usr/share/qemu/bios.bin": bytes(range(256)) * 100,
    "usr/share/doc/qemu/copyright": COPYRIGHT,
}
DEPENDS = "Depends: libc6 (>= 2.34), adduser\n"
