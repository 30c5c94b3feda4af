# SPDX-License-Identifier: Apache-2.0
"""What QEMU would take an image for if nobody said what it is: told by the first bytes, as QEMU's own probing does.

A raw disk that begins like another format is how a guest, or who made the image, names files of the host: any program
that guesses would follow the header to them. So no image is taken as raw that begins like a format which can name other
files, or which is no disk as it stands. This module reads no more than what it is given.
"""

from __future__ import annotations

from hypervisor.errors import ImageNotRaw, Qcow2Malformed
from hypervisor.qcow2 import parse_header

PROBED = 512
"""Bytes that are enough to tell."""

FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\x00", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
)
"""Offset, magic number and QEMU's name of the formats of disks that QEMU guesses (``block/*.c``, ``bdrv_probe``).

LUKS is not among them: it names no file, and a guest may well begin its disk so.
"""


def probe(untrusted_head: bytes) -> str:
    """QEMU's name of the format that an image seems to have; ``raw`` where it is none of ``FORMATS``.

    Args:
        untrusted_head: its first bytes: ``PROBED`` of them, or all where it has fewer.
    """
    # QEMU passes over comments and blank lines to a VMDK descriptor's "version=" line; its usual comment is enough.
    for offset, magic, name in FORMATS:
        if untrusted_head[offset : offset + len(magic)] == magic:
            return name
    lines = [line.strip() for line in untrusted_head[:PROBED].split(b"\n")]
    described = next((line for line in lines if line and not line.startswith(b"#")), b"")
    return "vmdk" if described.startswith((b"version=1", b"version=2", b"version=3")) else "raw"


def require_raw(untrusted_head: bytes, what: str) -> None:
    """Refuse an image that is declared raw and begins like something else.

    Args:
        untrusted_head: its first bytes: ``qcow2.MAX_HEADER`` of them, or all where it has fewer.
        what: the image, for the error.

    Raises:
        ImageNotRaw: it does.
    """
    found = probe(untrusted_head)
    if found == "raw":
        return
    names = _names(untrusted_head) if found == "qcow2" else ()
    aims = f"names {' and '.join(map(repr, names))}"[:300] if names else "may name other files"
    raise ImageNotRaw(
        f"{what} was not taken as a raw image",
        cause=f"it begins like {found}, whose header {aims}, and a program that guesses would follow that",
        remedy=f"if you made it, `qemu-img convert -f {found} -O raw` it; if a guest wrote it, do not open it",
        found=found,
        names=names,
    )


def _names(untrusted_head: bytes) -> tuple[str, ...]:
    """The files that a qcow2 header names; none where it is not in its form, as no program would follow it then."""
    try:
        header = parse_header(untrusted_head)
    except Qcow2Malformed:
        return ()
    return tuple(name for name in (header.backing_file, header.data_file) if name)
