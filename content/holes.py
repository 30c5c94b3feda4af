# SPDX-License-Identifier: Apache-2.0
"""Where a file has data and where it has holes. Reads nothing but the file's layout."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data_ranges(descriptor: int, length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of an open file that is not a hole, up to ``length``.

    Raises:
        OSError: it cannot be told.
    """
    end = 0
    while end < length:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # Only a hole is left.
                return
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), length)
        if start < end:
            yield start, end
