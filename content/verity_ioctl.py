# SPDX-License-Identifier: Apache-2.0
"""The kernel's word on a file's fs-verity: its digest in constant time.

Source: Linux Documentation/filesystems/fsverity.rst, sections "FS_IOC_MEASURE_VERITY" and
"FS_IOC_READ_VERITY_METADATA"; include/uapi/linux/fsverity.h. The digest is taken only where the tree has our
parameters: then it is the one that reading the whole file would give, and each later read is checked against it.

An answer is worth what the kernel and the file system's code are worth; ``content.keeping`` says whose are asked. This
module reads no file and enables nothing (``content.effects`` does).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import struct
from array import array

MEASURE = 0xC0046686
"""FS_IOC_MEASURE_VERITY: _IOWR('f', 134, struct fsverity_digest)."""

READ_METADATA = 0xC0286687
"""FS_IOC_READ_VERITY_METADATA: _IOWR('f', 135, struct fsverity_read_metadata_arg). Since Linux 5.12."""

FILESYSTEMS = frozenset({"btrfs", "ext4", "f2fs"})
"""File systems whose own code keeps the tree. Others (FUSE) pass the question on to somebody else."""

_LARGEST = 64
_DIGEST = struct.Struct("<HH")
_METADATA = struct.Struct("=QQQQQ")
_DESCRIPTOR_KIND = 2
_DESCRIPTOR = struct.Struct("<BBBB4xQ64s32s144s")
_BLOCK_BITS = 12
_HASHES = {1: hashlib.sha256, 2: hashlib.sha512}
"""By FS_VERITY_HASH_ALG_*."""


def kernel_digest(descriptor: int, length: int, algorithm: int) -> str | None:
    """The digest of an open file as its file system keeps it, or nothing where it must be read.

    Args:
        descriptor: of a regular file.
        length: its bytes.
        algorithm: FS_VERITY_HASH_ALG_SHA256 (1) or _SHA512 (2).

    Returns:
        Lower-case hexadecimal; None where the file has no fs-verity, or one with another hash, block size or salt, or
        the kernel or the file system does not know these questions.
    """
    try:
        answer = bytearray(_DIGEST.pack(0, _LARGEST) + bytes(_LARGEST))
        fcntl.ioctl(descriptor, MEASURE, answer)
        about = _read_descriptor(descriptor)
    except OSError:
        # Whatever the reason: reading the file gives the digest, or the error to tell.
        return None
    return judge(bytes(answer), about, length, algorithm)


def support(descriptor: int) -> str:
    """Whether an open file has fs-verity (``on``), could have it (``off``), or lies where none can (``missing``)."""
    try:
        fcntl.ioctl(descriptor, MEASURE, bytearray(_DIGEST.pack(0, _LARGEST) + bytes(_LARGEST)))
    except OSError as error:
        # fsverity.rst: ENODATA is a file without, on a file system that can; ENOTTY and EOPNOTSUPP one that cannot.
        return "off" if error.errno == errno.ENODATA else "missing"
    return "on"


def judge(answer: bytes, about: bytes, length: int, algorithm: int) -> str | None:
    """The digest in the kernel's answers, if it is one of a tree with our parameters.

    Args:
        answer: ``struct fsverity_digest``.
        about: ``struct fsverity_descriptor``, which is what the digest is a hash of.
        length: the file's bytes.
        algorithm: the wanted hash.
    """
    number, size = _DIGEST.unpack_from(answer)
    if number != algorithm or len(about) != _DESCRIPTOR.size or size > len(answer) - _DIGEST.size:
        return None
    version, about_number, block_bits, salt_size, about_length, root, *_ = _DESCRIPTOR.unpack(about)
    if (version, about_number, block_bits, salt_size, about_length) != (1, algorithm, _BLOCK_BITS, 0, length):
        return None
    # Made again from what was just looked at: the digest covers this description, not another one.
    expected = _HASHES[algorithm](_DESCRIPTOR.pack(1, algorithm, _BLOCK_BITS, 0, length, root, bytes(32), bytes(144)))
    digest = answer[_DIGEST.size : _DIGEST.size + size]
    return digest.hex() if digest == expected.digest() else None


def _read_descriptor(descriptor: int) -> bytes:
    room = array("B", bytes(_DESCRIPTOR.size))
    address, _ = room.buffer_info()
    question = _METADATA.pack(_DESCRIPTOR_KIND, 0, _DESCRIPTOR.size, address, 0)
    count = fcntl.ioctl(descriptor, READ_METADATA, bytearray(question))
    return room.tobytes()[:count]
