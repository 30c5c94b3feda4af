# SPDX-License-Identifier: Apache-2.0
"""Which parts of a file are not holes. Changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data_ranges(descriptor: int, length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of the first ``length`` bytes that is not a hole. Raises ``OSError``."""
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
