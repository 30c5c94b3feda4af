# SPDX-License-Identifier: Apache-2.0
"""Rules for administrators' accounts: passwords, lockout, inactivity, and the banner.

They lie in the database, for all processes, and are what FMT_MOF_EXT.1 (2, 15, 16, 20) lets an administrator set. What
is there and cannot be read is refused, and with it every log-in. Enforces nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, insert, select, update

from documents.canonical import decode, encode
from documents.errors import DocumentError
from documents.fields import Fields
from fleet.errors import RulesWrong
from fleet.tables import settings

RANGES: Final[Mapping[str, range]] = MappingProxyType(
    {
        "length": range(8, 129),
        "failures": range(1, 21),
        "lock_minutes": range(1_441),
        "idle_minutes": range(1, 61),
        "session_hours": range(1, 25),
    }
)
BANNER: Final = 4_000
"""Most characters of the banner."""

_NAME: Final = "accounts"
_LIMIT: Final = 40_000
_ANY: Final = re.compile(r"(?s).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules.

    Attributes:
        length: fewest characters of a password.
        failures: failed log-ins in a row after which an account is locked.
        lock_minutes: for how long it is; 0: until an administrator unlocks it.
        idle_minutes: without a page that somebody asked for, after which a session ends.
        session_hours: after which a session ends in any case.
        banner: shown before the log-in; lines are kept.
    """

    length: int = 15
    failures: int = 5
    lock_minutes: int = 15
    idle_minutes: int = 10
    session_hours: int = 12
    banner: str = ""

    def checked(self) -> Rules:
        """These, if each is in its range.

        Raises:
            RulesWrong: one is not.
        """
        for name, allowed in RANGES.items():
            if getattr(self, name) not in allowed:
                raise _wrong(f"{name} is not between {allowed[0]} and {allowed[-1]}")
        if len(self.banner) > BANNER or any(not (c.isprintable() or c == "\n") for c in self.banner):
            raise _wrong(f"the banner has more than {BANNER} characters, or some that are not to be seen")
        return self

    def changed(self, wanted: Mapping[str, str]) -> Rules:
        """These with others in their place, as texts.

        Raises:
            RulesWrong: one is unknown, no number, or not in its range.
        """
        found: dict[str, int | str] = {}
        for name, text in wanted.items():
            if name == "banner":
                found[name] = "\n".join(text.splitlines())
            elif name in RANGES and text.isascii() and text.isdecimal() and len(text) < 6:
                found[name] = int(text)
            else:
                raise _wrong(f"{name[:40]!r} is no rule, or {text[:20]!r} no number")
        return replace(self, **found).checked()  # type: ignore[arg-type]


def read(connection: Connection) -> Rules:
    """The rules; those of a new fleet where nobody set any.

    Raises:
        RulesWrong: what is there are none.
    """
    text = connection.execute(select(settings.c.text).where(settings.c.name == _NAME)).scalar_one_or_none()
    if text is None:
        return Rules()
    try:
        members = Fields(decode(text.encode(), _LIMIT), "rules for accounts")
        numbers = {name: members.take_int(name, allowed[0], allowed[-1]) for name, allowed in RANGES.items()}
        rules = Rules(**numbers, banner=members.take_text("banner", _ANY, BANNER, empty=True))
        members.finish()
    except DocumentError as error:
        raise _wrong(error.cause) from error
    return rules.checked()


def write(connection: Connection, rules: Rules) -> None:
    """Set the rules."""
    text = encode({item.name: getattr(rules, item.name) for item in fields(rules)}).decode()
    if connection.execute(update(settings).where(settings.c.name == _NAME).values(text=text)).rowcount == 0:
        connection.execute(insert(settings).values(name=_NAME, text=text))


def _wrong(cause: str) -> RulesWrong:
    return RulesWrong("the rules for accounts were not used", cause=cause, remedy="see `vmgate fleet admin rules`")
