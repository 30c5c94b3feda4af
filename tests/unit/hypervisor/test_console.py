# SPDX-License-Identifier: Apache-2.0
"""A guest's console cannot do anything to the terminal that shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.console import safe_text


@pytest.mark.parametrize(
    ("untrusted", "shown"),
    [
        (b"hello\r\nworld\n", "hello\nworld\n"),
        (b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading", "BdsDxe: loading"),
        (b"\x1b]0;owned\x07title", "title"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bP1$r0m\x1b\\x", "x"),
        (b"\x1b]0;never closed\nnext line", "0;never closed\nnext line"),
        (b"\xc2\x9b31mred", "red"),
        (b"\x1b(0x\x1bc", "x"),
        (b"ok\rPASS", "ok\nPASS"),
        (b"bell\x07 back\x08space \x7f", "bell\\x07 back\\x08space \\x7f"),
        ("right\u202eleft\u200b".encode(), "right\\u202eleft\\u200b"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("Grüße 你好\tend".encode(), "Grüße 你好\tend"),
        (b"\x1b", "\\x1b"),
    ],
)
def test_what_is_shown(untrusted: bytes, shown: str) -> None:
    assert safe_text(untrusted) == shown


@given(st.one_of(st.binary(), st.text("\x1b[]PX^_;0m\x07\\\x9b\x9d\x9ca\r\n").map(str.encode)))
def test_only_printable_text_comes_out(untrusted: bytes) -> None:
    text = safe_text(untrusted)
    assert all(c.isprintable() or c in "\n\t" for c in text)
    assert safe_text(text.encode()) == text
