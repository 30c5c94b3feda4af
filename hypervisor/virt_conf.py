# SPDX-License-Identifier: Apache-2.0
"""The configuration files of libvirt's daemons (qemu.conf, libvirtd.conf, virtqemud.conf), read strictly. Pure.

Source: libvirt, src/util/virconf.c: one ``name = value`` a line, comments after ``#``; a value is a number, a text in
single, double or three double quotes, or a list of texts. This module knows no setting and does not judge any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hypervisor.errors import ConfigurationUnreadable

MAX_CONFIGURATION: Final = 1_000_000
"""Bytes of one file; as shipped, the longest has 40,000."""

Value = int | str | tuple[str, ...]

_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_END: Final = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_TEXT: Final = re.compile(r'"""(.*?)"""|"([^"\n]*)"|\'([^\'\n]*)\'', re.DOTALL)


def parse_configuration(untrusted: bytes) -> Mapping[str, Value]:
    """Read a file; the settings by name. What is not set is not there.

    Raises:
        ConfigurationUnreadable: too long, no UTF-8, not in its form, or a setting that stands twice: which of the two
            counts is not for us to guess.
    """
    if len(untrusted) > MAX_CONFIGURATION:
        raise _unreadable(f"it has more than {MAX_CONFIGURATION} bytes")
    try:
        text = untrusted.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(f"it is no UTF-8: {error.reason}") from error
    settings: dict[str, Value] = {}
    at = _skip(_SPACE, text, 0)
    while at < len(text):
        name, at = _take(_NAME, text, at, "a name")
        at = _skip(_BLANK, text, at)
        if text[at : at + 1] != "=":
            raise _wrong(text, at, "`=` is missing")
        settings_value, at = _value(text, _skip(_BLANK, text, at + 1))
        if name in settings:
            raise _wrong(text, at, f"{name} is set twice")
        settings[name] = settings_value
        _, at = _take(_END, text, at, "the end of the line")
        at = _skip(_SPACE, text, at)
    return MappingProxyType(settings)


def _value(text: str, at: int) -> tuple[Value, int]:
    if text[at : at + 1] == "[":
        return _texts(text, at + 1)
    if _NUMBER.match(text, at):
        number, at = _take(_NUMBER, text, at, "a number")
        return int(number), at
    return _quoted(text, at)


def _quoted(text: str, at: int) -> tuple[str, int]:
    found = _TEXT.match(text, at)
    if found is None:
        raise _wrong(text, at, "a value is missing or has no end")
    return next(part for part in found.groups() if part is not None), found.end()


def _texts(text: str, at: int) -> tuple[tuple[str, ...], int]:
    items: list[str] = []
    at = _skip(_SPACE, text, at)
    while text[at : at + 1] != "]":
        item, at = _quoted(text, at)
        items.append(item)
        at = _skip(_SPACE, text, at)
        if text[at : at + 1] == ",":
            at = _skip(_SPACE, text, at + 1)
        elif text[at : at + 1] != "]":
            raise _wrong(text, at, "a list has no end")
    return tuple(items), at + 1


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _take(pattern: re.Pattern[str], text: str, at: int, what: str) -> tuple[str, int]:
    found = pattern.match(text, at)
    if found is None:
        raise _wrong(text, at, f"{what} is missing")
    return found.group(), found.end()


def _wrong(text: str, at: int, why: str) -> ConfigurationUnreadable:
    line = text.count("\n", 0, at) + 1
    return _unreadable(f"line {line}: {why}")


def _unreadable(cause: str) -> ConfigurationUnreadable:
    return ConfigurationUnreadable(
        "a configuration file of libvirt was not read",
        cause=cause,
        remedy="correct it; `virt-host-validate` reads it too",
    )
