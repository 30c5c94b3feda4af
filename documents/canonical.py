# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: one value, one byte string.

UTF-8, members sorted by name, no white space, integers only, no repeated member. ``decode`` accepts nothing else, so
``encode(decode(x)) == x`` for all that it returns, and a signature over the bytes is a signature over the value.

This module does not know any document; it does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import NoReturn, TypeAlias

from documents.errors import DocumentError, DocumentTooLarge

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 12
"""Levels of nesting. The deepest document (a release) needs six."""

MAX_INTEGER = 2**63 - 1
"""Largest magnitude of an integer: what every language's signed 64-bit type holds."""

_WORDS = {None: "null", False: "false", True: "true"}


def encode(value: Json) -> bytes:
    """Encode a value canonically.

    Raises:
        ValueError: the value has no canonical form (a float, a lone surrogate, an integer beyond 64 bits): a bug.
    """
    try:
        return _join(value, encode_basestring)
    except TypeError as error:
        raise ValueError("a member's name is not a text") from error


def decode(untrusted_bytes: bytes, limit: int, what: str = "document") -> dict[str, Json]:
    """Decode canonical bytes that hold one object.

    Args:
        untrusted_bytes: as received.
        limit: the most bytes that are parsed.
        what: named in errors.

    Raises:
        DocumentTooLarge: more than ``limit`` bytes; nothing was parsed.
        DocumentError: not UTF-8, not JSON, not an object, or not canonical.
    """
    if len(untrusted_bytes) > limit:
        raise DocumentTooLarge(
            f"the {what} was not read",
            cause=f"it has {len(untrusted_bytes)} bytes and the bound is {limit}",
            remedy="get it again from its publisher",
        )
    try:
        # Deep nesting ends in RecursionError here, and nesting beyond MAX_DEPTH when it is encoded again.
        value = json.loads(untrusted_bytes.decode(), parse_float=_no_float, parse_constant=_no_float)
        # Without a backslash there is nothing to escape: JSON has no other way to quotes and control characters.
        canonical = _join(value, encode_basestring if b"\\" in untrusted_bytes else _quote_plain)
    except (ValueError, RecursionError) as error:
        raise malformed(what, str(error)) from error
    if not isinstance(value, dict):
        raise malformed(what, "it is not an object")
    # Comparing the bytes refuses white space, unsorted and repeated members and needless escapes at once.
    if canonical != untrusted_bytes:
        raise malformed(what, "it is not in canonical form")
    return value


def malformed(what: str, cause: str) -> DocumentError:
    """The error for a document that is not what its format says."""
    return DocumentError(f"the {what} was refused", cause=cause, remedy="get it again from its publisher")


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer")


def _join(value: Json, quote: Callable[[str], str]) -> bytes:
    """Write a value in one pass; ``quote`` writes a text."""
    parts: list[str] = []
    _add(value, MAX_DEPTH, parts, quote)
    # A lone surrogate has no UTF-8.
    return "".join(parts).encode()


def _quote_plain(text: str) -> str:
    """Write a text that needs no escape: evidence has texts of some 100,000 characters, for each host of a fleet."""
    return f'"{text}"'


def _add(value: Json, depth: int, parts: list[str], quote: Callable[[str], str]) -> None:
    if depth < 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        parts.append(quote(value))
    elif value is None or isinstance(value, bool):
        parts.append(_WORDS[value])
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("an integer is beyond 64 bits")
        parts.append(str(value))
    elif isinstance(value, list):
        before = "["
        for item in value:
            parts.append(before)
            _add(item, depth - 1, parts, quote)
            before = ","
        parts.append("]" if value else "[]")
    elif isinstance(value, dict):
        before = "{"
        for name in sorted(value):
            parts += (before, quote(name), ":")
            _add(value[name], depth - 1, parts, quote)
            before = ","
        parts.append("}" if value else "{}")
    else:
        raise ValueError(f"{type(value).__name__} has no canonical form")
