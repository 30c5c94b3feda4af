# SPDX-License-Identifier: Apache-2.0
"""libvirt's configuration files are read as libvirt reads them, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import ConfigurationUnreadable
from hypervisor.virt_conf import MAX_CONFIGURATION, Value, parse_configuration

TEXT = st.text(st.characters(codec="utf-8", exclude_characters='"\n\r', exclude_categories=["Cs"]), max_size=20)
VALUES = st.integers(-(10**17), 10**17) | TEXT | st.lists(TEXT, max_size=4).map(tuple)
NAMES = st.from_regex(r"[a-z_][a-z0-9_.-]{0,20}", fullmatch=True)


def write(value: Value) -> str:
    if isinstance(value, tuple):
        return "[ " + ", ".join(f'"{item}"' for item in value) + " ]"
    return str(value) if isinstance(value, int) else f'"{value}"'


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_was_written_is_read(settings: dict[str, Value]) -> None:
    text = "".join(f"# about {name}\n{name} = {write(value)} # so\n\n" for name, value in settings.items())
    assert dict(parse_configuration(text.encode())) == settings


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("# nothing\n\n  \n", {}),
        ("a=1", {"a": 1}),
        ("  a\t=\t-1  \r\n", {"a": -1}),
        ('a = \'single\'\nb = """two\nlines"""\n', {"a": "single", "b": "two\nlines"}),
        ('a = [\n  "x", # one\n  "y",\n]\n', {"a": ("x", "y")}),
        ("a = []", {"a": ()}),
    ],
)
def test_forms(text: str, settings: dict[str, Value]) -> None:
    assert dict(parse_configuration(text.encode())) == settings


@pytest.mark.parametrize(
    "untrusted",
    [
        b"a", b"a 1", b"a =", b"a = x", b'a = "x', b'a = "x" "y"', b"a = [", b'a = ["x" "y"]', b"a = [1]", b"= 1",
        b"1 = 1", b"a = 1\na = 1", b"a = 1 b = 2", b"\xff", b"a = 99999999999999999999", b"#" * (MAX_CONFIGURATION + 1),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_its_line(untrusted: bytes) -> None:
    with pytest.raises(ConfigurationUnreadable) as caught:
        parse_configuration(untrusted)
    assert caught.value.line().isprintable()


def test_the_line_is_told() -> None:
    with pytest.raises(ConfigurationUnreadable, match="line 3"):
        parse_configuration(b"a = 1\n# x\nb\n")


@given(st.binary(max_size=200) | st.text("ab=[]\"'#\n, 1", max_size=60).map(str.encode))
def test_no_bytes_give_anything_but_settings_or_the_error(untrusted: bytes) -> None:
    try:
        settings = parse_configuration(untrusted)
    except ConfigurationUnreadable:
        return
    assert all(isinstance(value, int | str | tuple) for value in settings.values())
