# SPDX-License-Identifier: Apache-2.0
"""What a page is given and what it gives back. Values only: knows no HTTP and draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from fleet.database import Database
from fleet.errors import PageRefused
from fleet.logins import Logins, Person
from fleet.settings import FleetSettings
from fleet.trail import Trail

T = TypeVar("T")

FIELD_LIMIT: Final = 8_000
"""Most characters of a field of a form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all pages of one process share.

    Attributes:
        settings: of the service.
        database: of the fleet.
        trail: for records.
        logins: who is there.
        clock: gives seconds since 1970 UTC.
        version: of vmgate.
    """

    settings: FleetSettings
    database: Database
    trail: Trail
    logins: Logins
    clock: Callable[[], int]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, after it was found who asks and that they may.

    Attributes:
        site: see there.
        person: who is logged in; None on pages for everybody.
        origin: address of the other side.
        path: parts of the path by name.
        query: what stands behind the ``?``, the last of each name.
        form: all values of each field.
        now: seconds since 1970 UTC.
    """

    site: Site
    person: Person | None
    origin: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, tuple[str, ...]]
    now: int

    @property
    def who(self) -> Person:
        """Who is logged in.

        Raises:
            PageRefused: nobody is.
        """
        if self.person is None:
            raise PageRefused("the page was not shown", cause="nobody is logged in", remedy="log in")
        return self.person

    def one(self, name: str) -> str:
        """A field of the form; empty where it is not there."""
        values = self.form.get(name, ())
        return values[0] if len(values) == 1 and len(values[0]) <= FIELD_LIMIT else ""

    def read(self, look: Callable[[Connection], T]) -> T:
        """Look something up."""
        with self.site.database.read() as connection:
            return look(connection)

    def change(self, event: str, job: Callable[[Connection], tuple[T, str]], **details: str) -> T:
        """Change something and record it, both or neither; the job returns a result and what it was about."""

        def both(connection: Connection) -> T:
            result, subject = job(connection)
            self.site.trail.write(
                connection, self.now, event, "done", subject=subject, actor=f"{self.who.name} at {self.origin}",
                **details,
            )  # fmt: skip
            return result

        return self.site.database.write(both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page.

    Attributes:
        template: file that draws it.
        values: what it is drawn with.
        status: of HTTP.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """Another page is to be looked at: after every change, so that a reload does not do it again.

    Attributes:
        to: path of the service.
        session: what the browser is to show from now on; empty ends that; None changes nothing.
    """

    to: str
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A file.

    Attributes:
        body: of it.
        media: type.
        name: for whoever saves it.
    """

    body: bytes
    media: str
    name: str


Reply = Shown | Led | Sent
View = Callable[[Asked], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One path with one method.

    Attributes:
        method: GET, or POST for what changes something.
        path: as Starlette has it.
        verb: in ``documents.management.FLEET_FUNCTIONS``; empty for everybody, logged in or not.
        view: what makes the reply.
    """

    method: str
    path: str
    verb: str
    view: View
