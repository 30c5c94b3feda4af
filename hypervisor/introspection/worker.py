# SPDX-License-Identifier: Apache-2.0
"""The process that reads a guest's memory: started by ``reader``.

It gets an open core as standard input and a view's name, confines itself, and writes one JSON document. It knows no
name of the VM, no path and no secret. An error of vmgate's is an answer too; everything else ends it without one.
"""

from __future__ import annotations

import mmap
import os
import sys

from documents.canonical import Json, encode
from documents.errors import VmgateError
from hypervisor.introspection.confinement import confine
from hypervisor.introspection.elf_core import ElfCore
from hypervisor.introspection.integrity import integrity
from hypervisor.introspection.kernel import find_kernel
from hypervisor.introspection.views import modules, tasks


def look(core: ElfCore, view: str, btf_digest: str) -> dict[str, Json]:
    """One view of a guest, with the digest of the types that it rests on.

    Raises:
        IntrospectionError: it cannot be had.
    """
    kernel = find_kernel(core, btf_digest)
    if view == "tasks":
        found = tasks(kernel)
    elif view == "modules":
        found = modules(kernel)
    else:
        found = integrity(kernel, core.processors)
    return {"btf": kernel.types.digest, "view": view, **found}


def main() -> None:
    """Confine this process, read standard input, and answer on standard output."""
    view, digest = sys.argv[1], sys.argv[2]
    size = os.fstat(0).st_size
    # Mapping takes calls that the confined process has not; no byte is read before it is confined.
    with mmap.mmap(0, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as untrusted:
        # From here on no module can be loaded any more.
        confine(size)
        answer = answered(untrusted, view, digest)
    sys.stdout.buffer.write(encode(answer))
    sys.stdout.flush()


def answered(untrusted: memoryview, view: str, digest: str) -> dict[str, Json]:
    """A view, or the error's code and cause."""
    try:
        core = ElfCore(untrusted)
        try:
            return look(core, view, digest)
        finally:
            core.close()
    except VmgateError as error:
        return {"error": error.code, "cause": error.cause}
