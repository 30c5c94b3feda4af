# SPDX-License-Identifier: Apache-2.0
"""Lets the kernel check each later read of a file (fs-verity), where its file system can.

For ever: from then on nobody can write to the file, and a block that went bad on the disk is an error of the read.
Names may still be given and taken. A cut leaves the file with it or without it, and its bytes the same. This module
does not look at the bytes: who calls it knows them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from content import effects


def seal(path: Path) -> None:
    """Enable fs-verity on a file; nothing happens where the file system, or the kernel, cannot.

    May be repeated: what a cut prevented is done then, and what is sealed stays as it is. Nobody may have the file open
    for writing.
    """
    # No reason is an error, not even a full disk: without it the file is as good, and is read before each use.
    with suppress(OSError), effects.opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        effects.enable_verity(descriptor)
