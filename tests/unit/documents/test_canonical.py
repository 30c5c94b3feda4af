# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: one value has one byte string, and nothing else is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents.canonical import MAX_DEPTH, MAX_INTEGER, Json, decode, encode
from documents.errors import DocumentError, DocumentTooLarge
from lab.documents import OBJECTS, VALUES, damaged

LIMIT = 100_000

GOLDEN: list[tuple[Json, bytes]] = [
    ({}, b"{}"),
    ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
    ({"a": [None, True, False, [], {}]}, b'{"a":[null,true,false,[],{}]}'),
    ({"a": [0, -1, MAX_INTEGER, -MAX_INTEGER]}, b'{"a":[0,-1,9223372036854775807,-9223372036854775807]}'),
    ({"": ""}, b'{"":""}'),
    ({"a": '"\\/'}, b'{"a":"\\"\\\\/"}'),
    ({"a": "\n\t\r\b\f\x00\x1f\x7f"}, b'{"a":"\\n\\t\\r\\b\\f\\u0000\\u001f\x7f"}'),
    ({"a": "\u00e9\u20ac\U0001f512\u2028"}, b'{"a":"\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x92\xe2\x80\xa8"}'),
    # By code point, not by UTF-16 unit as RFC 8785 sorts: U+FF41 comes before U+1F512.
    ({"\U0001f512": 1, "\uff41": 2}, b'{"\xef\xbd\x81":2,"\xf0\x9f\x94\x92":1}'),
    ({"a": 1, "A": 2, "_": 3, "1": 4}, b'{"1":4,"A":2,"_":3,"a":1}'),
]


@pytest.mark.parametrize(("value", "encoded"), GOLDEN)
def test_golden_vectors(value: dict[str, Json], encoded: bytes) -> None:
    assert encode(value) == encoded
    assert decode(encoded, LIMIT) == value


REFUSED = {
    "empty": b"",
    "null": b"null",
    "number": b"1",
    "list": b"[]",
    "text": b'"a"',
    "two values": b"{}{}",
    "white space before": b" {}",
    "line end after": b"{}\n",
    "white space inside": b'{"a": 1}',
    "unsorted": b'{"b":1,"a":2}',
    "repeated member": b'{"a":1,"a":1}',
    "repeated member inside": b'{"a":{"b":1,"b":2}}',
    "needless escape": b'{"a":"\\u0061"}',
    "escaped slash": b'{"a":"\\/"}',
    "escape in upper case": b'{"a":"\\u001F"}',
    "escaped non-ASCII": b'{"a":"\\u00e9"}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "lone surrogate in a name": b'{"\\ud800":1}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "raw control character": b'{"a":"\n"}',
    "float": b'{"a":1.5}',
    "float that is whole": b'{"a":1.0}',
    "exponent": b'{"a":1e2}',
    "huge exponent": b'{"a":1e999999999}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "negative zero": b'{"a":-0}',
    "leading zero": b'{"a":01}',
    "plus sign": b'{"a":+1}',
    "beyond 64 bits": b'{"a":9223372036854775808}',
    "below 64 bits": b'{"a":-9223372036854775808}',
    "thousands of digits": b'{"a":' + b"9" * 50_000 + b"}",
    "deeper than allowed": b'{"a":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}",
    "deep lists": b'{"a":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "deep objects": b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "brackets that never close": b"[" * 90_000,
    "comment": b"{}//",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "cut off": b'{"a":',
}


@pytest.mark.parametrize("untrusted", REFUSED.values(), ids=REFUSED)
def test_refused(untrusted: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        decode(untrusted, LIMIT)
    assert type(caught.value) is DocumentError
    assert len(caught.value.line()) < 400


def test_deepest_nesting_is_read() -> None:
    deepest = b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    assert encode(decode(deepest, LIMIT)) == deepest


def test_bound_stands_before_the_parser() -> None:
    """Bytes over the bound are refused as too large, even where no parser would take them."""
    with pytest.raises(DocumentTooLarge):
        decode(b"[" * 101, 100)
    assert decode(b'{"a":"' + b"x" * 92 + b'"}', 100)


@pytest.mark.parametrize("value", [1.5, {"a": {1}}, {1: 2}, "\ud800", {"\udfff": 1}, MAX_INTEGER + 1, b"bytes", (1,)])
def test_what_has_no_canonical_form_is_a_bug(value: Json) -> None:
    with pytest.raises(ValueError):
        encode(value)


@given(OBJECTS)
def test_decode_gives_back_what_was_encoded(value: dict[str, Json]) -> None:
    assert decode(encode(value), LIMIT) == value


@given(VALUES)
def test_other_parsers_read_the_same_value(value: Json) -> None:
    assert json.loads(encode(value)) == value


@settings(max_examples=30)
@given(st.data())
def test_damaged_bytes_are_refused_or_another_value(data: st.DataObject) -> None:
    for untrusted in damaged(encode(data.draw(OBJECTS))):
        try:
            other = decode(untrusted, LIMIT)
        except DocumentError:
            continue
        assert encode(other) == untrusted


@given(st.binary(max_size=200) | st.text('{}[]":,0123456789.-aeE \\u', max_size=60).map(str.encode))
def test_arbitrary_bytes(untrusted: bytes) -> None:
    try:
        value = decode(untrusted, LIMIT)
    except DocumentError:
        return
    assert encode(value) == untrusted


@given(VALUES)
def test_the_standard_librarys_encoder_writes_the_same(value: Json) -> None:
    theirs = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    assert encode(value) == theirs.encode()


@pytest.mark.parametrize("untrusted", [b'{"a":"\x7f","b":""}', b'{"":{},"a":[[],{}]}', '{"a":"\u2028"}'.encode()])
def test_what_needs_no_escape_is_read_as_it_stands(untrusted: bytes) -> None:
    assert encode(decode(untrusted, LIMIT)) == untrusted
