# SPDX-License-Identifier: Apache-2.0
"""A level of a large file's tree, hashed by processes on all cores.

Where others cannot help, all of it is done here, and what is wrong with the file is found here. This module does not
judge a digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from content.hash_worker import NUMBER, hash_named, hash_units, numbers_of, place_of
from content.worker_pool import with_others


def hash_level(descriptor: int, numbers: Sequence[int], level: bytearray, length: int, name: str) -> None:
    """Put the hashes of some units of an open file into the level above its leaves.

    Args:
        descriptor: of the file.
        numbers: of the units.
        level: room for the whole level; what stands for other units stays.
        length: of the file, in bytes.
        name: of the hash in ``hashlib``.

    Raises:
        EOFError: the file is shorter.
        OSError: it cannot be read.
    """
    results = os.memfd_create("vmgate-level", os.MFD_CLOEXEC)
    try:
        os.pwrite(results, level, 0)

        def own(tasks: Iterator[bytes]) -> None:
            for number, hashes in hash_units(descriptor, numbers_of(tasks), length, hash_named(name)):
                os.pwrite(results, hashes, place_of(number, name))

        tasks = [number.to_bytes(NUMBER, "little") for number in numbers]
        words = ["hash", *(str(word) for word in (descriptor, results, length, name))]
        if not with_others(words, (descriptor, results), tasks, own):
            own(iter(tasks))
        level[:] = os.pread(results, len(level), 0)
    finally:
        os.close(results)
