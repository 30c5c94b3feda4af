# SPDX-License-Identifier: Apache-2.0
"""A qcow2 header is read as it was written, or refused; what it names is told and never opened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import Qcow2Malformed
from hypervisor.qcow2 import MAX_HEADER, MAX_NAME, parse_header
from lab.qcow2 import BITMAPS, DATA_FILE, GOOD, LUKS, NAMES, QCOW2, RAW, Written

TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), min_size=1, max_size=60).filter(str.isprintable)
OTHERS = st.tuples(
    st.integers(1, 2**32 - 1).filter(lambda kind: kind not in {k for k, _ in (RAW, DATA_FILE, BITMAPS, LUKS)}),
    st.binary(max_size=80),
)


@st.composite
def written(draw: st.DrawFn) -> Written:
    """Any well-formed header."""
    version = draw(st.sampled_from((2, 3)))
    compression = draw(st.integers(0, 255)) if version == 3 else 0
    extensions = dict(draw(st.lists(OTHERS, max_size=4)))
    extensions |= dict(draw(st.lists(st.sampled_from((RAW, QCOW2, DATA_FILE, NAMES, BITMAPS, LUKS)), max_size=4)))
    bits = draw(st.integers(0, 2**64 - 1)) & ~8 | (8 if compression else 0) if version == 3 else 0
    number, wide = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
    return Written(
        version=version,
        size=draw(wide),
        # A small cluster might not hold all of it.
        cluster_bits=draw(st.integers(12, 21)),
        name=draw(st.one_of(st.just(""), TEXTS)).encode(),
        encryption=draw(number),
        l1_entries=draw(number),
        l1_offset=draw(wide),
        refcount_offset=draw(wide),
        refcount_clusters=draw(number),
        snapshots=draw(number),
        incompatible=bits,
        compatible=draw(wide) if version == 3 else 0,
        autoclear=draw(wide) if version == 3 else 0,
        refcount_order=draw(st.integers(0, 6)) if version == 3 else 4,
        tail=bytes([compression]) + draw(st.sampled_from((bytes(7), b"\1" * 7, bytes(15)))),
        extensions=tuple(extensions.items()),
    )


@given(written())
def test_a_header_is_read_as_it_was_written(image: Written) -> None:
    header = parse_header(image.encode())
    extensions = dict(image.extensions)
    assert (header.version, header.virtual_size, header.cluster_bits) == (image.version, image.size, image.cluster_bits)
    assert (header.backing_file or "") == image.name.decode()
    assert (header.backing_format or "").encode() == extensions.get(RAW[0], b"")
    external = image.incompatible & 4 or DATA_FILE[0] in extensions
    assert (header.data_file is not None) == bool(external)
    assert (header.data_file or "").encode() == extensions.get(DATA_FILE[0], b"")
    assert header.extensions == tuple(extensions)
    assert header.bitmaps == (1 if BITMAPS[0] in extensions else 0)
    assert (header.incompatible, header.compatible, header.autoclear) == (
        image.incompatible, image.compatible, image.autoclear,
    )  # fmt: skip
    assert header.refcount_bits == 1 << image.refcount_order
    assert (header.encryption, header.snapshots) == (image.encryption, image.snapshots)
    assert (header.l1_entries, header.l1_offset) == (image.l1_entries, image.l1_offset)
    assert (header.refcount_clusters, header.refcount_offset) == (image.refcount_clusters, image.refcount_offset)
    if image.version == 3:
        assert (header.compression, header.length) == (image.tail[0], 104 + len(image.tail))
        assert header.further == any(image.tail[1:])


@given(written(), st.binary(max_size=200))
def test_what_stands_behind_it_changes_nothing(image: Written, after: bytes) -> None:
    assert parse_header(image.encode() + after) == parse_header(image.encode())


@pytest.mark.parametrize("image", GOOD)
def test_a_header_that_is_cut_off_anywhere_is_refused_or_says_the_same(image: Written) -> None:
    """Only the end of the extensions may be missing: an image may stop there."""
    whole = image.encode()
    header = parse_header(whole)
    for length in range(len(whole)):
        try:
            found = parse_header(whole[:length])
        except Qcow2Malformed:
            continue
        # A cut between two extensions reads as fewer of them; nothing that was read differs.
        assert found.extensions == header.extensions[: len(found.extensions)]
        assert found.backing_file == header.backing_file
        assert (found.incompatible, found.virtual_size) == (header.incompatible, header.virtual_size)


@given(st.binary(max_size=600))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Qcow2Malformed):
        parse_header(data)


IMAGE = Written(name=b"base", extensions=(RAW,))
WRONG = {
    "empty": b"",
    "version-0": replace(IMAGE, version=0).encode(),
    "version-1": replace(IMAGE, version=1).encode(),
    "version-4": replace(IMAGE, version=4).encode(),
    "magic": b"QFI\xfa" + IMAGE.encode()[4:],
    "cluster-8": replace(IMAGE, cluster_bits=8).encode(),
    "cluster-22": replace(IMAGE, cluster_bits=22).encode(),
    "cluster-huge": replace(IMAGE, cluster_bits=2**32 - 1).encode(),
    "header-short": replace(IMAGE, length=96).encode(),
    "header-odd": replace(IMAGE, length=108).encode(),
    "header-beyond": replace(IMAGE, length=MAX_HEADER + 8).encode(),
    "refcounts": replace(IMAGE, refcount_order=7).encode(),
    "compression-unsaid": replace(IMAGE, tail=b"\1" + bytes(7)).encode(),
    "compression-absent": replace(IMAGE, incompatible=8).encode(),
    "name-empty": replace(IMAGE, name_length=0).encode(),
    "name-long": Written(name=b"a" * (MAX_NAME + 1)).encode(),
    "name-beyond": replace(IMAGE, name_length=500).encode(),
    "name-in-header": replace(IMAGE, name_at=8).encode(),
    "name-far": replace(IMAGE, name_at=MAX_HEADER).encode(),
    "name-past-cluster": Written(name=b"base", cluster_bits=9, name_at=510).encode(),
    "name-no-text": Written(name=b"\xff\xfe").encode(),
    "name-with-control": Written(name=b"ba\nse").encode(),
    "name-turned-about": Written(name="ba\u202ese".encode()).encode(),
    "name-with-nul": Written(name=b"base\0/etc/shadow").encode(),
    "format-no-text": Written(extensions=((RAW[0], b"\xff"),)).encode(),
    "format-empty": Written(extensions=((RAW[0], b""),)).encode(),
    "format-twice": Written(extensions=(RAW, QCOW2)).encode(),
    "extension-beyond": Written().encode()[:-8] + b"\x12\x34\x56\x78\xff\xff\xff\xff",
    "extensions-many": Written(extensions=tuple((kind, b"") for kind in range(1, 40))).encode(),
    "bitmaps-short": Written(extensions=((BITMAPS[0], b"1"),)).encode(),
    "bitmaps-none": Written(extensions=((BITMAPS[0], bytes(24)),)).encode(),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_header_that_is_not_in_its_form_is_refused(name: str) -> None:
    parse_header(IMAGE.encode())
    with pytest.raises(Qcow2Malformed) as caught:
        parse_header(WRONG[name])
    assert caught.value.line().isprintable()


def test_a_header_of_a_gigabyte_is_not_read() -> None:
    image = Written(length=2**30)
    with pytest.raises(Qcow2Malformed):
        parse_header(image.encode() + bytes(2 * MAX_HEADER))
