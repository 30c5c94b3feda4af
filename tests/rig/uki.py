# SPDX-License-Identifier: Apache-2.0
"""Unified kernel images (UAPI.5): command line, initrd and kernel behind systemd's stub, signed as one EFI program.

The stub measures each section into PCR 11, name and content. This module does not predict what that comes to.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

from rig.programs import RigBroken, run

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a kernel image is made of.

    Attributes:
        release: os-release of the root.
        command_line: without an end of line.
        initrd: a cpio archive.
        kernel: a bzImage.
    """

    release: Path
    command_line: str
    initrd: Path
    kernel: Path

    def with_command_line(self, text: str) -> Parts:
        """The same with another command line."""
        return replace(self, command_line=text)


@dataclass(frozen=True, slots=True)
class Signer:
    """A key in the clear and its certificate, both PEM: test keys only."""

    key: Path
    certificate: Path


def build(parts: Parts, target: Path, signer: Signer | None) -> Path:
    """Make the image; nobody signs it where ``signer`` is None."""
    command_line = target.with_suffix(".cmdline")
    command_line.write_text(parts.command_line)
    sections = {
        ".osrel": parts.release, ".cmdline": command_line, ".initrd": parts.initrd, ".linux": parts.kernel
    }  # fmt: skip
    options: list[str | Path] = []
    address = _end_of_image(STUB)
    for name, path in sections.items():
        options += ["--add-section", f"{name}={path}", "--change-section-vma", f"{name}={address:#x}"]
        address = _page(address + path.stat().st_size)
    unsigned = target.with_suffix(".unsigned")
    run("objcopy", *options, STUB, unsigned)
    if signer is None:
        return unsigned.rename(target)
    run("sbsign", "--key", signer.key, "--cert", signer.certificate, "--output", target, unsigned)
    unsigned.unlink()
    return target


def _end_of_image(program: Path) -> int:
    """The first free page after a PE image, as an address with its base (PE/COFF specification, optional header)."""
    if not program.exists():
        raise RigBroken(f"there is no {program}; .ci/system-packages installs it")
    pe = program.read_bytes()
    header = struct.unpack_from("<I", pe, 0x3C)[0] + 24
    (base,) = struct.unpack_from("<Q", pe, header + 24)
    (size,) = struct.unpack_from("<I", pe, header + 56)
    return _page(base + size)


def _page(address: int) -> int:
    return -(-address // PAGE) * PAGE
