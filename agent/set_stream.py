# SPDX-License-Identifier: Apache-2.0
"""The file of an exported VM: a head, then pieces that are encrypted one by one, in their order and to their end.

The head is a magic number and the set's key, wrapped for the recipient (``keys.recovery``). Pieces are 1 MiB, the last
one shorter or empty: AES-256-GCM under the set's key, which encrypts this one stream and nothing else. The nonce is the
piece's number and whether it is the last (as STREAM, Hoang, Reyhanitabar, Rogaway and Vizar 2015), the head is the
associated data. So no piece can be changed, left out, moved, cut off, or taken from another file. This module knows
nothing of what is inside, and what it gives is only as good as whoever had the recipient's public key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.set_errors import SetRefused
from documents.errors import DocumentError
from documents.host_state import WrappedVmKey

MAGIC = b"vmgate VM set 1\n"
PIECE = 2**20
TAG = 16
LENGTH = 4

Read = Callable[[int], bytes]
"""Gives at most so many bytes; nothing at the end."""


def encode_head(copy: WrappedVmKey) -> bytes:
    """The head of a file.

    Args:
        copy: the set's key for its recipient; its UUID is the set's.
    """
    inside = copy.encode()
    return MAGIC + len(inside).to_bytes(LENGTH, "big") + inside


def read_head(untrusted_read: Read) -> tuple[bytes, WrappedVmKey]:
    """The head of a file, and the wrapped key in it.

    Raises:
        SetRefused: it is none.
    """
    begin = _exactly(untrusted_read, len(MAGIC) + LENGTH)
    length = int.from_bytes(begin[len(MAGIC) :], "big")
    if not begin.startswith(MAGIC) or not 0 < length <= WrappedVmKey.LIMIT:
        raise refused("it is no exported VM")
    inside = _exactly(untrusted_read, length)
    try:
        copy = WrappedVmKey.parse(inside)
    except DocumentError as error:
        raise refused(error.cause) from error
    if copy.guardian != "recovery":
        raise refused("its key is wrapped for no recipient")
    return begin + inside, copy


def seal(key: bytes, head: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Encrypt a stream.

    Args:
        key: 32 bytes that are used for nothing else.
        head: of the file, which it begins with.
        parts: the plain bytes, cut anywhere.
    """
    cipher, about = AESGCM(key), hashlib.sha256(head).digest()
    number, waiting = 0, bytearray()
    for part in parts:
        waiting += part
        while len(waiting) > PIECE:
            yield cipher.encrypt(_nonce(number, last=False), bytes(waiting[:PIECE]), about)
            del waiting[:PIECE]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(waiting), about)


class Opened:
    """A stream that is being decrypted; no byte is given before its piece was found to be right.

    Args:
        key: of the set.
        head: as it was read.
        untrusted_read: what follows the head.
    """

    def __init__(self, key: bytes, head: bytes, untrusted_read: Read) -> None:
        self._cipher = AESGCM(key)
        self._about = hashlib.sha256(head).digest()
        self._read = untrusted_read
        self._number = 0
        self._ahead = _some(untrusted_read, PIECE + TAG)
        self._ended = False
        self._plain = b""

    def take(self, length: int) -> bytes:
        """So many bytes.

        Raises:
            SetRefused: there are fewer, or they were changed.
        """
        found = bytearray()
        while len(found) < length:
            if not self._plain:
                self._next()
            wanted = length - len(found)
            found += self._plain[:wanted]
            self._plain = self._plain[wanted:]
        return bytes(found)

    def pieces(self, length: int) -> Iterator[bytes]:
        """So many bytes, piece by piece. Raises as ``take`` does."""
        while length:
            part = self.take(min(length, PIECE))
            length -= len(part)
            yield part

    def finish(self) -> None:
        """Require that all was taken.

        Raises:
            SetRefused: there is more.
        """
        if not self._ended:
            self._next()
        if self._plain or not self._ended:
            raise refused("there is something behind its end")

    def _next(self) -> None:
        if self._ended:
            raise refused("it is shorter than it says")
        sealed, self._ahead = self._ahead, _some(self._read, PIECE + TAG)
        last = not self._ahead
        try:
            self._plain = self._cipher.decrypt(_nonce(self._number, last=last), sealed, self._about)
        except (InvalidTag, ValueError) as error:
            raise refused("it was changed or cut off, or the key is another one") from error
        self._number += 1
        self._ended = last


def refused(cause: str) -> SetRefused:
    """The refusal of a set."""
    return SetRefused("nothing was imported", cause=cause, remedy="export the VM again, see `vmgate explain AG200`")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _some(read: Read, length: int) -> bytes:
    found = bytearray()
    while len(found) < length and (part := read(length - len(found))):
        found += part
    return bytes(found)


def _exactly(read: Read, length: int) -> bytes:
    found = _some(read, length)
    if len(found) != length:
        raise refused("it is cut off")
    return found
