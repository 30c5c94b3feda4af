# SPDX-License-Identifier: Apache-2.0
"""The qcow2 images that a host makes: read again by the parser that the gate uses.

Beside QEMU's own program they are tried in ``tests/integration/test_qcow2_images.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import Qcow2Malformed, Qcow2Refused
from hypervisor.qcow2 import GENERATION, GENERATION_SIZE, LAZY_REFCOUNTS, MAX_HEADER, parse_header
from hypervisor.qcow2_rules import MAX_VIRTUAL_SIZE, require_plain
from hypervisor.qcow2_write import CLUSTER, encode_data, encode_overlay, put_generation
from lab.qcow2 import GOOD, LUKS, NAMES, Written

MARKS = st.binary(min_size=GENERATION_SIZE, max_size=GENERATION_SIZE)
PATHS = st.text("abc/.-_ä", min_size=1, max_size=400).map(lambda text: "/" + text)
DATA = Written(encryption=2, extensions=(LUKS, NAMES), compatible=1)


@given(length=st.integers(1, 2**36), path=PATHS)
def test_an_overlay_is_plain_and_says_what_it_was_made_of(length: int, path: str) -> None:
    image = encode_overlay(length, path, "raw")
    header = parse_header(image[:MAX_HEADER])
    require_plain(header, len(image), "overlay", "disk")
    assert (header.backing_file, header.backing_format) == (path, "raw")
    assert length <= header.virtual_size < length + 512
    assert header.compatible == LAZY_REFCOUNTS
    assert len(image) % CLUSTER == 0
    table = image[header.l1_offset : header.l1_offset + 8 * header.l1_entries]
    assert not any(table), "nothing was written yet"


@pytest.mark.parametrize("length", [1, 2**29, 2**29 + 1, MAX_VIRTUAL_SIZE])
def test_the_reference_counts_are_one_for_each_cluster_and_zero_behind(length: int) -> None:
    image = encode_overlay(length, "/base", "raw")
    clusters = len(image) // CLUSTER
    assert int.from_bytes(image[CLUSTER : CLUSTER + 8], "big") == 2 * CLUSTER
    counts = image[2 * CLUSTER : 3 * CLUSTER]
    assert counts == (b"\0\1" * clusters).ljust(CLUSTER, b"\0")


@pytest.mark.parametrize(("length", "path"), [(0, "/"), (MAX_VIRTUAL_SIZE + 1, "/"), (1, ""), (1, "a" * 1024)])
def test_no_overlay_is_made_of_what_the_gate_would_refuse(length: int, path: str) -> None:
    with pytest.raises(ValueError, match=r"no disk|no overlay"):
        encode_overlay(length, path, "raw")


@given(length=st.integers(1, 2**36), mark=MARKS, key_area=st.binary(min_size=1, max_size=CLUSTER + 1))
def test_an_encrypted_disk_is_plain_and_holds_its_key_area(length: int, mark: bytes, key_area: bytes) -> None:
    image = encode_data(length, key_area, mark)
    header = parse_header(image[:MAX_HEADER])
    require_plain(header, len(image), "data", "disk")
    assert header.generation == mark
    assert header.key_area is not None
    place, size = header.key_area
    assert image[place : place + size] == key_area
    assert not any(image[header.l1_offset : place])
    clusters = len(image) // CLUSTER
    assert image[2 * CLUSTER : 3 * CLUSTER] == (b"\0\1" * clusters).ljust(CLUSTER, b"\0")


@given(first=MARKS, second=MARKS)
def test_a_mark_is_replaced_and_nothing_else_changes(first: bytes, second: bytes) -> None:
    head = encode_data(2**20, b"key area", first)[:MAX_HEADER]
    again = put_generation(head, second)
    assert parse_header(again) == replace(parse_header(head), generation=second)
    assert put_generation(again, first) == head


@given(mark=MARKS)
def test_a_mark_is_replaced_wherever_qemu_put_it(mark: bytes) -> None:
    head = replace(DATA, extensions=(*DATA.extensions, (GENERATION, bytes(16)))).encode().ljust(MAX_HEADER, b"\0")
    assert parse_header(put_generation(head, mark)).generation == mark


@pytest.mark.parametrize("image", GOOD)
def test_an_image_without_a_mark_gets_none(image: Written) -> None:
    with pytest.raises(Qcow2Malformed, match="no mark"):
        put_generation(image.encode().ljust(MAX_HEADER, b"\0"), bytes(GENERATION_SIZE))


def test_a_mark_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        put_generation(DATA.encode().ljust(MAX_HEADER, b"\0"), bytes(15))


@given(head=st.binary(max_size=300))
def test_other_bytes_get_no_mark(head: bytes) -> None:
    with pytest.raises(Qcow2Malformed):
        put_generation(head, bytes(GENERATION_SIZE))


def test_a_signed_base_may_have_no_mark() -> None:
    marked = replace(GOOD[0], extensions=((GENERATION, bytes(16)),)).encode()
    require_plain(parse_header(marked), 0x100000, "overlay", "disk")
    with pytest.raises(Qcow2Refused, match="extension"):
        require_plain(parse_header(marked), 0x100000, "base", "disk")
