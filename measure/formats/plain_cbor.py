# SPDX-License-Identifier: Apache-2.0
"""A look over untrusted CBOR before a decoder sees it: only plain items, bounded, and only tags that are wanted.

Source: RFC 8949, 3 (major types) and appendix C (well-formedness). A decoder does what a tag asks for: it shares values
(tags 28 and 29), keeps strings (25 and 256), makes dates and patterns. A hundred bytes can so become a value that takes
hours to hash or to write. What passes here takes time and memory in proportion to its bytes. This module decodes
nothing and does no I/O.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

MAX_DEPTH: Final = 24
"""Lists, maps and tags inside of each other."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_LAST_LENGTH: Final = 27
"""The largest additional information that announces the bytes of a number; above are indefinite lengths."""


def flaw(untrusted: bytes, tags: Collection[int]) -> str:
    """What keeps bytes from being one plain item; empty where nothing does.

    Plain are integers, byte strings, texts, lists, maps and the given tags, with definite lengths and nothing behind.

    Args:
        untrusted: any bytes; the caller has bounded them.
        tags: numbers of the tags that may be there.
    """
    why, at = first_item(untrusted, tags)
    return why or ("" if at == len(untrusted) else "something follows its end")


def first_item(untrusted: bytes, tags: Collection[int]) -> tuple[str, int]:
    """The same for the first item of these bytes, whatever follows: what is wrong with it, and where it ends."""
    end, at = len(untrusted), 0
    # How many items are still to come, of each list, map or tag that is open.
    missing = [1]
    while missing:
        if not missing[-1]:
            missing.pop()
            continue
        missing[-1] -= 1
        if at == end:
            return "it ends too early", at
        major, number = untrusted[at] >> 5, untrusted[at] & 0x1F
        at += 1
        if number > _LAST_LENGTH:
            return "a length in it is not definite", at
        if number >= 24:
            start, at = at, at + (1 << (number - 24))
            number = int.from_bytes(untrusted[start:at])
        if major in (_BYTES, _TEXT):
            at += number
        elif major == _SIMPLE or (major == _TAG and number not in tags):
            return "it has a kind of value that has no place in it", at
        elif major >= _LIST:
            # Each item takes a byte at least, so a forged count costs nothing.
            missing.append(1 if major == _TAG else number * (2 if major == _MAP else 1))
            if len(missing) > MAX_DEPTH or missing[-1] > end - at:
                return "it is nested too deeply, or announces more than is there", at
        if at > end:
            return "it ends too early", at
    return "", at
