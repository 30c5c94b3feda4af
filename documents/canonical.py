# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: one value, one byte string.

UTF-8, members sorted by name, no white space, integers only, no repeated member. ``decode`` accepts nothing else, so
``encode(decode(x)) == x`` for all that it returns, and a signature over the bytes is a signature over the value.

This module does not know any document; it does no I/O.
"""

from __future__ import annotations

import json
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
    _require_encodable(value, MAX_DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


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
        canonical = encode(value) if b"\\" in untrusted_bytes else _join(value)
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


def _join(value: Json) -> bytes:
    """What ``encode`` gives for a value that was read from JSON without a backslash, with one copy of its texts.

    Evidence holds texts of some 100,000 characters, and a verifier reads it for a whole fleet.

    Raises:
        ValueError: see ``encode``.
    """
    parts: list[str] = []
    _add(value, MAX_DEPTH, parts)
    return "".join(parts).encode()


def _add(value: Json, depth: int, parts: list[str]) -> None:
    if depth < 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        parts += ('"', value, '"')
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
            _add(item, depth - 1, parts)
            before = ","
        parts.append("]" if value else "[]")
    else:
        before = '{"'
        for name in sorted(value):
            parts += (before, name, '":')
            _add(value[name], depth - 1, parts)
            before = ',"'
        parts.append("}" if value else "{}")


def _require_encodable(value: Json, depth: int) -> None:
    if depth < 0:
        raise ValueError("nested too deeply")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("an integer is beyond 64 bits")
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for item in value:
            _require_encodable(item, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError("a member's name is not a text")
            name.encode()
            _require_encodable(item, depth - 1)
    else:
        raise ValueError(f"{type(value).__name__} has no canonical form")
