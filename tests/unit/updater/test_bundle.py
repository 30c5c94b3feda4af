# SPDX-License-Identifier: Apache-2.0
"""What is written into a bundle comes out of it, and nothing else does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.bundle import BundleEntry, BundleIndex
from documents.errors import VmgateError
from updater.bundle import CHUNK, BundleReader, encode_head
from updater.errors import BundleMalformed, NotOffered

names = st.from_regex(r"(metadata|targets|blobs)/[a-z0-9]{1,8}", fullmatch=True)
files = st.dictionaries(names, st.binary(max_size=40), min_size=1, max_size=6)


def _encode(contents: dict[str, bytes]) -> bytes:
    entries, offset = [], 0
    for name in sorted(contents):
        entries.append(BundleEntry(name=name, offset=offset, length=len(contents[name])))
        offset += len(contents[name])
    return encode_head(BundleIndex(entries=tuple(entries))) + b"".join(contents[n] for n in sorted(contents))


def _write(data: bytes) -> Path:
    descriptor, name = tempfile.mkstemp()
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return Path(name)


@given(files)
def test_what_goes_in_comes_out(contents: dict[str, bytes]) -> None:
    path = _write(_encode(contents))
    with BundleReader(path) as reader:
        assert {e.name: reader.read(e.name, 100) for e in reader.index.entries} == contents
        for name, data in contents.items():
            for start in range(len(data) + 1):
                assert b"".join(reader.stream(name, start)) == data[start:]
                for length in range(1, len(data) + 2):
                    assert b"".join(reader.stream(name, start, length)) == data[start : start + length]
    path.unlink()


@given(files, st.data())
def test_a_bundle_that_is_cut_or_grown_is_refused(contents: dict[str, bytes], data: st.DataObject) -> None:
    whole = _encode(contents)
    changed = data.draw(st.sampled_from([whole[:at] for at in range(len(whole))] + [whole + b"\0"]))
    path = _write(changed)
    with pytest.raises(BundleMalformed):
        BundleReader(path)
    path.unlink()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    path = _write(data)
    with pytest.raises(VmgateError):
        BundleReader(path)
    path.unlink()


def test_reads_are_bounded_and_names_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(_encode({"metadata/a": b"12345", "metadata/b": b""}))
    with BundleReader(path) as reader:
        with pytest.raises(BundleMalformed, match="bound is 4"):
            reader.read("metadata/a", 4)
        with pytest.raises(NotOffered, match=r"metadata/\.\./a"):
            reader.read("metadata/../a", 100)


def test_a_bundle_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(_encode({"blobs/a": bytes(2 * CHUNK)}))
    with BundleReader(path) as reader:
        chunks = reader.stream("blobs/a")
        next(chunks)
        os.truncate(path, CHUNK)
        with pytest.raises(BundleMalformed, match="shortened"):
            list(chunks)
