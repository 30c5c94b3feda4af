# SPDX-License-Identifier: Apache-2.0
"""Reading the TOML that people write as strictly as documents are read, and naming the line of what is wrong.

This module does not know any key, and reads no file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import cast

from documents.canonical import Json
from documents.errors import DocumentError, TomlWrong
from documents.fields import Fields

LIMIT = 1_000_000
"""Bytes of a TOML file. The longest that anybody writes has some ten thousand."""

Place = tuple[str | int, ...]
"""Where a key stands: names of tables and keys, and positions in arrays of tables counted from 0."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*[.=]")


class Table(Fields):
    """One TOML table while it is being read.

    Args:
        untrusted: the table.
        source: the file's path, for messages.
        text: all of the file, to find lines in.
        place: where in the file the table stands.
        error: what is raised; who reads has a name of its own for it.
    """

    def __init__(
        self,
        untrusted: Json,
        source: object,
        text: str,
        place: Place = (),
        error: type[DocumentError] = TomlWrong,
    ) -> None:
        self._source = source
        self._text = text
        self._place = place
        self._error = error
        if not isinstance(untrusted, dict):
            raise _wrong(error, source, f"{_line(text, place)}{_shown(place)} is not a table")
        super().__init__(untrusted, str(source))

    def wrong(self, name: str, why: str) -> DocumentError:
        """See ``Fields.wrong``; the key is named with its line."""
        return _wrong(self._error, self._source, f"{_line(self._text, (*self._place, name))}key {name[:60]!r} {why}")

    def table(self, name: str) -> Table:
        """Take a table within this one."""
        return self._within(self.take(name), name)

    def tables(self, name: str, limit: int) -> tuple[Table, ...]:
        """Take an array of at most ``limit`` tables."""
        parts = self.take_list(name, lambda part: part, limit)
        return tuple(self._within(part, name, position) for position, part in enumerate(parts))

    def _within(self, untrusted: Json, *place: str | int) -> Table:
        return Table(untrusted, self._source, self._text, (*self._place, *place), self._error)

    def with_value(self, name: str, value: Json) -> Table:
        """This table, not yet read, with another value for a key that was taken from it."""
        return Table({**self._left, name: value}, self._source, self._text, self._place, self._error)

    def completed(self, values: Mapping[str, Json]) -> Table:
        """This table, not yet read, with values for the keys that it does not have."""
        return Table({**values, **self._left}, self._source, self._text, self._place, self._error)

    def names(self) -> tuple[str, ...]:
        """The keys that nobody took yet, in the file's order."""
        return tuple(self._left)


def read_table(untrusted_bytes: bytes, source: object, error: type[DocumentError] = TomlWrong) -> Table:
    """Read a TOML file as a whole.

    Args:
        untrusted_bytes: the file.
        source: its name, for messages.
        error: what is raised for whatever is wrong in it.

    Raises:
        DocumentError: of the kind of ``error``: too long, not UTF-8, or not TOML.
    """
    if len(untrusted_bytes) > LIMIT:
        raise _wrong(error, source, f"it has more than {LIMIT} bytes")
    try:
        untrusted_text = untrusted_bytes.decode()
        # A date or a float is no Json; each `take_*` refuses it as it refuses any other type.
        untrusted = cast("Json", tomllib.loads(untrusted_text))
    except (ValueError, RecursionError) as problem:
        raise _wrong(error, source, str(problem)) from problem
    return Table(untrusted, source, untrusted_text, (), error)


def _wrong(error: type[DocumentError], source: object, cause: str) -> DocumentError:
    return error(f"{source} was not read", cause=cause, remedy="correct the file")


def _shown(place: Place) -> str:
    return ".".join(str(part) for part in place)


def _line(text: str, place: Place) -> str:
    """``line N: `` of a key, or of the nearest table around it that has a line of its own; empty if none has."""
    lines = _lines(text)
    while place:
        if place in lines:
            return f"line {lines[place]}: "
        place = place[:-1]
    return ""


def _lines(text: str) -> dict[Place, int]:
    """The line of each header and key that stands at the start of a line. Only for messages: not a parser."""
    found: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = tuple(part.strip(" \"'") for part in header[2].split("."))
            found.setdefault(table, number)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
                found[table] = number
        elif key := _KEY.match(line):
            found.setdefault((*table, key[1].strip("\"'")), number)
    return found
