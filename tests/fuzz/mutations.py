# SPDX-License-Identifier: Apache-2.0
"""Ways to damage bytes: blind ones, ones for text, and ones that know JSON and keep it canonical where they can.

All that is random comes from the dice that are given, so a case is made again from its number. Knows no parser.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MOST = 256 * 1024
"""Bytes of what comes out."""

NUMBERS = (
    *(-(2**63), -1, 0, 1, 9, 23, 24, 63, 64, 127, 255, 256, 999, 1000, 4095, 4096, 65535, 65537, 2**20, 2**31 - 1),
    *(2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**40, 2**44, 2**44 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1),
)
"""Numbers at the edges of types and of our own bounds."""

TEXTS = (
    *("", "..", "/", "a/../b", "-1", "A", "a" * 64, "a" * 300, "0" * 64, "=" * 8, "\0", "\n", "\x1b[2J", "\u202e"),
    *("\u0661", "\xe9", "root", "platform", "sha256", "shake_128", "__class__", "type", "2026-02-30T00:00:00Z"),
)
RAW = (
    *("1.0", "-0", "1e999", "NaN", "-Infinity", "01", " 1", '"', "{}", "[]", r'"\ud800"', r'"\u0041"'),
    *("9" * 5000, "[" * 5000 + "]" * 5000, '{"a":' * 900 + "1" + "}" * 900),
)
"""What is JSON, or nearly, and no canonical JSON."""

WORDS = (
    *(text.encode() for text in (*TEXTS, *RAW, *map(str, NUMBERS))),
    *(b"0x" + b"f" * 5000, b"{" + b"a." * 5000 + b"a = 1}", b"1979-05-27", b"true", b'"""'),
    *(b"%ff", b"\xff\xfe", b"\xed\xa0\x80"),
)
"""What is put into texts, TOML among them."""

Way = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def mutated(dice: random.Random, seeds: Sequence[bytes], form: str, words: Sequence[bytes] = ()) -> bytes:
    """One of the seeds, changed in a few ways.

    Args:
        dice: decide everything.
        seeds: well-formed bytes.
        form: ``json``, ``text`` or ``binary``.
        words: what means something in that format, besides ``WORDS``.
    """
    data = dice.choice(seeds)
    blindly = form != "json" or dice.random() < 0.3
    if form == "json" and dice.random() < 0.8:
        data = _restructured(data, dice, seeds)
    if blindly:
        ways = (*BLIND, *(TEXTUAL if form != "binary" else ()))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            data = dice.choice(ways)(data, dice, (*words, *WORDS) if form != "binary" else seeds)[:MOST]
    return data


def _place(data: bytes, dice: random.Random) -> int:
    """Any place; half of the time rather one near the beginning, where heads are."""
    return int(len(data) * (dice.random() ** 4 if dice.random() < 0.5 else dice.random()))


def _number(dice: random.Random) -> bytes:
    size = dice.choice("BHIQ")
    number = dice.choice(NUMBERS) % 2 ** (8 * struct.calcsize(size))
    return struct.pack(dice.choice("<>") + size, number)


def _flip(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + bytes(byte ^ 1 << dice.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _overwrite(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at, number = _place(data, dice), _number(dice)
    return data[:at] + number + data[at + len(number) :]


def _insert(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.choice((_number(dice), str(dice.choice(NUMBERS)).encode(), b"\0" * 40)) + data[at:]


def _cut(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at + dice.choice((1, 1, 2, 8, 100, len(data))) :]


def _repeat(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    end = at + dice.choice((1, 4, 12, 36, 300))
    return data[:at] + data[at:end] * dice.choice((2, 3, 50)) + data[end:]


def _splice(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    other = dice.choice(others)
    return data[: _place(data, dice)] + other[_place(other, dice) :]


def _put_in(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.choice(others) + data[at:]


_TOKEN = re.compile(rb'"[^"\n]*"|[^\s"=,;\[\]{}]+')


def _exchange(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """A word or a quoted text for another."""
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return data
    token, new = dice.choice(tokens), dice.choice(others)
    quoted = dice.random() < 0.3
    return data[: token.start()] + (b'"' + new + b'"' if quoted else new) + data[token.end() :]


BLIND: tuple[Way, ...] = (_flip, _overwrite, _insert, _cut, _repeat, _splice)
TEXTUAL: tuple[Way, ...] = (_put_in, _exchange, _exchange, _exchange)


class Members(list[Any]):
    """A JSON object as [name, value] in its order, so that members can be repeated and stand anywhere."""


class Raw(str):
    """Written as it is."""

    __slots__ = ()


def _restructured(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    """JSON changed in its structure; bytes that are none as they are."""
    holder = [_read(data)]
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        # The whole is what the holder holds: it can be exchanged, dropped and doubled as well.
        container = dice.choice([holder, *(inner for whole in holder for inner in _containers(whole))])
        if container:
            dice.choice(CHANGES)(container, dice.randrange(len(container)), dice, seeds)
    return "".join(map(_write, holder)).encode(errors="surrogatepass")[:MOST]


def _read(data: bytes) -> Any:
    return json.loads(data, object_pairs_hook=lambda pairs: Members([name, value] for name, value in pairs))


def _write(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Members):
        return "{" + ",".join(f"{_write(name)}:{_write(part)}" for name, part in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _containers(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, list):
        yield value
        for item in value:
            yield from _containers(item[1] if isinstance(value, Members) else item)


def _get(container: list[Any], at: int) -> Any:
    return container[at][1] if isinstance(container, Members) else container[at]


def _set(container: list[Any], at: int, value: Any) -> None:
    container[at] = [container[at][0], value] if isinstance(container, Members) else value


def _replace(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    others = (*NUMBERS, *TEXTS, True, False, None, Members(), [], [1], *map(Raw, RAW))
    _set(container, at, dice.choice(others))


def _tweak(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    """Another value of the same type, near to the old one."""
    value = _get(container, at)
    if isinstance(value, bool):
        _set(container, at, not value)
    elif isinstance(value, int):
        _set(container, at, dice.choice((value + 1, value - 1, -value, dice.choice(NUMBERS))))
    elif isinstance(value, str) and not isinstance(value, Raw):
        place = dice.randrange(len(value) + 1)
        new = dice.choice((dice.choice("0aZ-./:= \n"), dice.choice(TEXTS), ""))
        _set(container, at, value[:place] + new + value[place + dice.randrange(3) :])
    else:
        _replace(container, at, dice, seeds)


def _drop(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    del container[at]


def _double(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    container[at:at] = [container[at]] * dice.choice((1, 1, 12))


def _reorder(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    container.append(container.pop(at))


def _rename(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    """Another name in its place of the order, or something else in the place of a list."""
    if isinstance(container, Members):
        container[at] = [dice.choice((dice.choice(TEXTS), dice.choice(container)[0])), container[at][1]]
        if dice.random() < 0.5:
            container.sort(key=lambda member: member[0])
    else:
        _replace(container, at, dice, seeds)


def _nest(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(dice.choice((1, 2, 10, 14, 60))):
        value = _get(container, at)
        _set(container, at, [value] if dice.random() < 0.5 else Members([["a", value]]))


def _graft(container: list[Any], at: int, dice: random.Random, seeds: Sequence[bytes]) -> None:
    """A part of another seed, or of this one."""
    other = dice.choice(list(_containers(_read(dice.choice(seeds)))))
    _set(container, at, _get(other, dice.randrange(len(other))) if other else other)


Change = Callable[[list[Any], int, random.Random, Sequence[bytes]], None]
CHANGES: tuple[Change, ...] = (_replace, _tweak, _tweak, _tweak, _drop, _double, _reorder, _rename, _nest, _graft)
