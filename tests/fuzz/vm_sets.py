# SPDX-License-Identifier: Apache-2.0
"""Seeds of exported VMs, and what holds for whatever they were made into."""

from __future__ import annotations

import io
from pathlib import Path

from agent.set_stream import Opened, encode_head, read_head, seal
from documents.host_state import WrappedVmKey

KEY = bytes(range(32))
PLAIN = bytes(range(256)) * 64
HEAD = encode_head(
    WrappedVmKey(
        uuid="7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99", guardian="recovery", nonce=bytes(12), ciphertext=bytes(48),
        key="ab" * 32, sender=bytes(65), check=bytes(32),
    )
)  # fmt: skip


def files() -> list[bytes]:
    """Of one piece, and of none."""
    return [HEAD + b"".join(seal(KEY, HEAD, [plain])) for plain in (PLAIN, b"")]


def check_file(folder: Path, untrusted: bytes) -> None:
    """Only what was written comes to its end, and with another head nothing does."""
    read = io.BytesIO(untrusted).read
    head, copy = read_head(read)
    assert copy.guardian == "recovery"
    opened = Opened(KEY, head, read)
    length = len(PLAIN) if len(untrusted) > len(HEAD) + 16 else 0
    assert opened.take(length) == PLAIN[:length]
    opened.finish()
    assert head == HEAD
