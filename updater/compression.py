# SPDX-License-Identifier: Apache-2.0
"""zstd (RFC 8878), the one module that knows the library: bounded decompression of bytes that nobody vouches for."""

from __future__ import annotations

import sys

from updater.errors import PackMalformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 12
"""For frames: most of what level 19 saves, at a tenth of its time."""

BEST = 19

_SMALL_WINDOW = 23
"""Binary logarithm of the window of what has no prefix: frames and tables are smaller than that."""


def compressed(data: bytes, level: int, *, prefix: bytes = b"", window_log: int = 0) -> bytes:
    """Compress, if need be with bytes before it that the reader has too.

    Args:
        data: any bytes.
        level: ``LEVEL`` or ``BEST``.
        prefix: referred to as if it stood before ``data``; empty, or at least eight bytes.
        window_log: binary logarithm of how far back is looked; must span ``prefix`` and ``data``.
    """
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: level}
    if window_log:
        options |= {parameter.window_log: window_log, parameter.enable_long_distance_matching: 1}
    return zstd.compress(data, options=options, zstd_dict=_prefix(prefix))


def decompressed(untrusted: bytes, size: int, *, prefix: bytes = b"", window_log: int = _SMALL_WINDOW) -> bytes:
    """Decompress what must give exactly ``size`` bytes; no more memory is taken than that and the window.

    Raises:
        PackMalformed: it is something else.
        ValueError: ``size`` is negative, which the library would take for no bound at all.
    """
    if size < 0:
        raise ValueError(f"{size} bytes cannot come out of anything")
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window_log}
    try:
        decompressor = zstd.ZstdDecompressor(zstd_dict=_prefix(prefix), options=options)
        data = decompressor.decompress(untrusted, size + 1)
    except (zstd.ZstdError, ValueError) as error:
        raise _malformed(str(error)) from error
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise _malformed(f"{len(data)} bytes came out of it and {size} were said")
    return data


def _prefix(data: bytes) -> tuple[zstd.ZstdDict, int] | None:
    return zstd.ZstdDict(data, is_raw=True).as_prefix if data else None


def _malformed(why: str) -> PackMalformed:
    return PackMalformed(
        "compressed bytes were not used", cause=why[:200], remedy="try another mirror, or ask the publisher"
    )
