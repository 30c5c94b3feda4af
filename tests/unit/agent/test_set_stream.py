# SPDX-License-Identifier: Apache-2.0
"""The file of an exported VM: what is read is what was written, whole and in order, or nothing."""

from __future__ import annotations

import io
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agent.set_errors import SetRefused
from agent.set_stream import MAGIC, PIECE, TAG, Opened, encode_head, read_head, seal
from documents.host_state import WrappedVmKey
from keys.recovery import recovery_key, unwrap, wrap

KEY = bytes(range(32))
SET = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d99"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
HEAD = encode_head(wrap(recovery_key(PRIVATE, 0), SET, KEY, os.urandom))
LONG = os.urandom(2 * PIECE + 77)


def sealed(plain: bytes, cut: int = 1_000_003) -> bytes:
    return b"".join(seal(KEY, HEAD, (plain[at : at + cut] for at in range(0, len(plain), cut))))


def opened(untrusted: bytes, length: int, *, key: bytes = KEY, head: bytes = HEAD) -> bytes:
    stream = Opened(key, head, io.BytesIO(untrusted).read)
    found = stream.take(length)
    stream.finish()
    return found


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(LONG)])
def test_what_was_written_is_read_again(length: int) -> None:
    assert opened(sealed(LONG[:length]), length) == LONG[:length]


@given(st.integers(0, 300), st.integers(1, 50))
def test_however_it_was_cut(length: int, cut: int) -> None:
    assert sealed(LONG[:length], cut) == sealed(LONG[:length])


def test_the_head_gives_the_recipient_the_key_and_nobody_else() -> None:
    head, copy = read_head(io.BytesIO(HEAD + sealed(b"x")).read)
    assert head == HEAD
    assert unwrap(PRIVATE, copy, copy.uuid) == KEY
    assert copy.uuid == SET


@pytest.mark.parametrize(
    "bad",
    [
        b"", MAGIC, MAGIC + bytes(4), MAGIC + b"\xff" * 4, HEAD[:-1], b"x" + HEAD[1:],
        encode_head(WrappedVmKey(uuid=SET, guardian="tpm", nonce=bytes(12), ciphertext=b"")),
    ],
)  # fmt: skip
def test_what_is_no_head_is_refused(bad: bytes) -> None:
    with pytest.raises(SetRefused):
        read_head(io.BytesIO(bad).read)


def test_nothing_can_be_changed_left_out_moved_added_or_cut_off() -> None:
    whole, piece = sealed(LONG), PIECE + TAG
    first, second, rest = whole[:piece], whole[piece : 2 * piece], whole[2 * piece :]
    for bad in (
        second + first + rest, first + rest, first + second, first, b"", whole + b"x", whole[:-1],
        first + first + second + rest,
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, piece, -1)),
    ):  # fmt: skip
        with pytest.raises(SetRefused):
            opened(bad, len(LONG))


def test_another_key_and_another_head_open_nothing() -> None:
    other = encode_head(wrap(recovery_key(PRIVATE, 0), SET, KEY, os.urandom))
    with pytest.raises(SetRefused):
        opened(sealed(LONG), len(LONG), key=bytes(32))
    with pytest.raises(SetRefused):
        opened(sealed(LONG), len(LONG), head=other)


def test_what_is_shorter_or_longer_than_it_says_is_refused() -> None:
    for length in (0, len(LONG) - 1, len(LONG) + 1, PIECE, 2 * PIECE):
        with pytest.raises(SetRefused):
            opened(sealed(LONG), length)
