# SPDX-License-Identifier: Apache-2.0
"""Images that resemble each other, as an update's do: made up, quick, and the same at each run."""

from __future__ import annotations

import random

from content.fsverity import BLOCK, SPAN

BLOCKS_IN_SPAN = SPAN // BLOCK


def blocks(count: int, seed: int) -> list[bytes]:
    """Blocks that compress about as well as programs do."""
    dice = random.Random(seed)
    return [dice.randbytes(BLOCK // 2) + bytes([dice.randrange(1, 256)]) * (BLOCK // 2) for _ in range(count)]


def first(seed: int = 1) -> bytes:
    """An image of 3.2 MiB: six and a half spans, the third of zeros, the last block not whole."""
    parts = blocks(6 * BLOCKS_IN_SPAN + 65, seed)
    parts[2 * BLOCKS_IN_SPAN : 3 * BLOCKS_IN_SPAN] = [bytes(BLOCK)] * BLOCKS_IN_SPAN
    return b"".join(parts)[:-1000]


def edited(image: bytes, seed: int = 2) -> bytes:
    """The image with a few blocks changed where they stand."""
    changed = bytearray(image)
    for number, block in zip((5, 6, 7, 700), blocks(4, seed), strict=True):
        changed[number * BLOCK : (number + 1) * BLOCK] = block
    return bytes(changed)


def moved(image: bytes, seed: int = 3) -> bytes:
    """The image with blocks put in near its beginning, so that all that follows stands elsewhere."""
    return image[: 9 * BLOCK] + b"".join(blocks(3, seed)) + image[9 * BLOCK :]


def patched(image: bytes) -> bytes:
    """The image with a few bytes changed in some blocks: what a delta with a prefix is made for."""
    changed = bytearray(image)
    for number in (1, 40, 41, 600):
        changed[number * BLOCK + 17 : number * BLOCK + 21] = b"new!"
    return bytes(changed)
