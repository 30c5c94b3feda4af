# SPDX-License-Identifier: Apache-2.0
"""From vmgate's own wheel to the list of files that it puts on a host, and to the libvirt hook in it.

A wheel's files are installed as they are (PyPA "Binary distribution format"), so the list needs no installation. What
an installer makes itself (``*.dist-info``, the ``vmgate`` starter, byte code) is not listed.
This module does not build the wheel.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesHeaderParser
from pathlib import Path

from content.durable import read_file
from documents.host_files import HostFiles
from publisher.listing import Listing, measure_stream, unusable

PACKAGES = (
    "agent",
    "content",
    "documents",
    "fleet",
    "hypervisor",
    "keys",
    "measure",
    "publisher",
    "updater",
    "vmgate",
)
"""The top-level packages of the wheel. Anything else in it is refused: a host would run it unmeasured."""

HOOK = "agent/hook_script.py"
"""The libvirt hook; ``init`` copies it to where libvirt looks for it."""

MAX_WHEEL = 64 * 1024**2
"""Bytes of the wheel."""

MAX_FILES = 5_000
MAX_FILE = 16 * 1024**2
"""Bytes of one file in the wheel."""

ENCRYPTED = 1
"""Bit of a member's flags (PKWARE APPNOTE 4.4.4)."""


def list_wheel(path: Path) -> HostFiles:
    """List the files of vmgate's wheel, by their path below the folder that it is installed in.

    Raises:
        PackageUnusable: not the wheel of vmgate, damaged, or beyond the bounds.
        ContentError: the file cannot be read.
    """
    listing = Listing("site")
    with _opened(path) as wheel:
        metadata: list[zipfile.ZipInfo] = []
        for member in wheel.infolist():
            # Not `is_dir()`: a nameless member makes it fail.
            if member.filename.endswith("/"):
                continue
            top, _, rest = member.filename.partition("/")
            if top.endswith(".dist-info"):
                metadata += [member] if rest == "METADATA" else []
            elif top not in PACKAGES:
                raise unusable(path, f"{member.filename!r} is in none of vmgate's packages")
            else:
                with wheel.open(member) as content:
                    listing.add_file(f"/{member.filename}", measure_stream(content, member.file_size, path), path)
        if len(metadata) != 1:
            raise unusable(path, "it is not one wheel")
        untrusted_headers = BytesHeaderParser().parsebytes(wheel.read(metadata[0]))
    if untrusted_headers["Name"] != "vmgate":
        raise unusable(path, "it is not vmgate's")
    listing.add_package("vmgate", str(untrusted_headers["Version"]), path)
    return listing.document(path)


def hook_bytes(path: Path) -> bytes:
    """The libvirt hook in the wheel.

    Raises:
        PackageUnusable: there is none, or the wheel is damaged.
        ContentError: the file cannot be read.
    """
    with _opened(path) as wheel:
        if HOOK not in wheel.namelist():
            raise unusable(path, f"it has no {HOOK}")
        return wheel.read(HOOK)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    untrusted_bytes = read_file(path, MAX_WHEEL)
    try:
        with zipfile.ZipFile(io.BytesIO(untrusted_bytes)) as wheel:
            members = wheel.infolist()
            if len(members) > MAX_FILES or any(member.file_size > MAX_FILE for member in members):
                raise unusable(path, "it has too many files or too large ones")
            if any(member.flag_bits & ENCRYPTED for member in members):
                raise unusable(path, "it is encrypted")
            yield wheel
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise unusable(path, f"it is not an intact wheel ({error})") from error
