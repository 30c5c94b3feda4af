# SPDX-License-Identifier: Apache-2.0
"""Reading a growing file from a place on. This module writes nothing and does not know what the bytes mean."""

from __future__ import annotations

import os
from pathlib import Path

from content.errors import Missing, storage


def read_from(path: Path, offset: int, limit: int) -> bytes:
    """At most ``limit`` bytes from ``offset`` on; nothing where the file ends there, or is not there yet.

    Raises:
        ContentError: it cannot be read.
    """
    try:
        with storage("the file was not read", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return os.pread(descriptor, limit, offset)
            finally:
                os.close(descriptor)
    except Missing:
        return b""
