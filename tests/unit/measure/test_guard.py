# SPDX-License-Identifier: Apache-2.0
"""VM keys under the host's key. Sealing the host's key itself is shown with a TPM, in the integration tests."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.host_state import WrappedVmKey
from lab.documents import UUIDS
from measure.errors import KeyRefused
from measure.guard import unwrap, wrap

KEK = bytes(range(32))
UUID = "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f"


@given(st.binary(min_size=32, max_size=32), UUIDS)
def test_a_key_comes_back_through_its_document(key: bytes, uuid: str) -> None:
    wrapped = wrap(KEK, uuid, key, os.urandom)
    assert unwrap(KEK, WrappedVmKey.parse(wrapped.encode()), uuid) == key
    assert key not in wrapped.encode()


def test_no_two_wrappings_are_alike() -> None:
    assert wrap(KEK, UUID, bytes(32), os.urandom) != wrap(KEK, UUID, bytes(32), os.urandom)


def test_another_host_vm_or_byte_opens_nothing() -> None:
    wrapped = wrap(KEK, UUID, bytes(32), os.urandom)
    other = UUID.replace("b9", "b8")
    attacks = [
        (bytes(32), wrapped, UUID),
        (KEK, wrapped, other),
        (KEK, replace(wrapped, uuid=other), other),
        (KEK, replace(wrapped, nonce=b""), UUID),
        (KEK, replace(wrapped, ciphertext=b""), UUID),
    ]
    for at in range(len(wrapped.ciphertext)):
        bad = bytearray(wrapped.ciphertext)
        bad[at] ^= 1
        attacks.append((KEK, replace(wrapped, ciphertext=bytes(bad)), UUID))
    for kek, found, uuid in attacks:
        with pytest.raises(KeyRefused):
            unwrap(kek, found, uuid)
