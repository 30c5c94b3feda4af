# SPDX-License-Identifier: Apache-2.0
"""The programs of a VMM image and how each is started from it, wherever it is mounted.

Each has a small shell script of its name in ``/bin`` of the image. It starts the program by the image's own loader with
the image's own libraries, and tells QEMU where its modules, firmware and ROMs are: left alone, QEMU would load the
modules of the host's QEMU. The shell that reads the script, and /etc, are the host's.

Pure. This module does not decide what the arguments are; libvirt and the caller do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

LOADER: Final = "/usr/lib64/ld-linux-x86-64.so.2"
MODULES: Final = "/usr/lib/x86_64-linux-gnu/qemu"
"""QEMU's own modules: devices, block drivers, accelerators."""

SETTINGS: Final = "/etc/swtpm_setup.conf"

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "certtool": (),
        "qemu-img": (),
        "qemu-system-x86_64": ("-L", "/usr/share/qemu", "-L", "/usr/share/seabios", "-L", "/usr/lib/ipxe/qemu"),
        "swtpm": (),
        "swtpm_cert": (),
        "swtpm_ioctl": (),
        "swtpm_localca": (),
        "swtpm_setup": ("--config", SETTINGS),
    }
)
"""Name and first arguments. Absolute paths among these are the image's."""


def program_path(name: str) -> str:
    """Where the program itself lies in the image."""
    return f"/usr/bin/{name}"


def scripts(library_path: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Path and text of each script. ``library_path``: folders of the image, see ``linking``."""
    for name, arguments in PROGRAMS.items():
        yield f"/bin/{name}", _script(name, arguments, library_path).encode()


def settings() -> bytes:
    """What ``swtpm_setup`` reads. Which CA certifies a virtual TPM is the host's business, so these stay outside."""
    return (
        b"create_certs_tool = swtpm_localca\n"
        b"create_certs_tool_config = /etc/swtpm-localca.conf\n"
        b"create_certs_tool_options = /etc/swtpm-localca.options\n"
        b"active_pcr_banks = sha256\n"
    )


def _script(name: str, arguments: Sequence[str], library_path: Sequence[str]) -> str:
    told = "".join(f' "$root{part}"' if part.startswith("/") else f" {part}" for part in arguments)
    libraries = ":".join(f"$root{folder}" for folder in library_path)
    # Without the host's cache of libraries, and without what the environment would bring in.
    return f"""\
#!/bin/sh
root=$(cd -P -- "${{0%/*}}/.." && pwd -P) || exit 126
unset LD_AUDIT LD_LIBRARY_PATH LD_PRELOAD
export PATH="$root/bin" QEMU_MODULE_DIR="$root{MODULES}"
exec "$root{LOADER}" --inhibit-cache --library-path "{libraries}" --argv0 "$0" "$root{program_path(name)}"{told} "$@"
"""
