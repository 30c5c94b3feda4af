# SPDX-License-Identifier: Apache-2.0
"""Some bytes in the middle of a file that has its name already, and a file that somebody else wrote, made durable.

A power cut may leave the old bytes, the new ones, or, where they span sectors of a disk, a mixture: whoever reads them
must be able to tell. A file that is replaced as a whole is the matter of ``content.durable``.
"""

from __future__ import annotations

import os
from pathlib import Path

from content import effects
from content.errors import storage


def patch(path: Path, offset: int, data: bytes) -> None:
    """Replace bytes of a file that is there; a link is not followed.

    Raises:
        ContentError: it failed; the bytes are the old, the new, or a mixture.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW
    with storage("the file was not changed", path, len(data)), effects.opened(path, flags) as descriptor:
        view = memoryview(data)
        while view:
            written = effects.write(descriptor, view, offset)
            view, offset = view[written:], offset + written
        effects.fsync(descriptor)


def sync(path: Path) -> None:
    """Let what another process wrote into a file survive a power cut; a link is not followed.

    Raises:
        ContentError: it failed.
    """
    with (
        storage("the file was not synchronised", path),
        effects.opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor,
    ):
        effects.fsync(descriptor)
