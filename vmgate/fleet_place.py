# SPDX-License-Identifier: Apache-2.0
"""What commands of the fleet's service share: the option ``--folder``, the database, and who is recorded as acting.

They work on the service's folder and database, on its machine: who may read the folder is its administrator. The
libraries of the service are loaded by the commands that need them.
"""

from __future__ import annotations

import os
import pwd
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fleet.errors import LibraryMissing

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fleet.database import Database
    from fleet.settings import FleetSettings
    from fleet.trail import Trail

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def folder_option(function: F) -> F:
    """Give a command the option ``--folder``."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("/var/lib/vmgate-fleet"),
        envvar="VMGATE_FLEET",
        help="The service's folder.",
    )(function)


@contextmanager
def libraries() -> Iterator[None]:
    """Say so where the libraries of the service are not installed.

    Raises:
        LibraryMissing: one of them is not.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            "the fleet's service was not used",
            cause=f"the library {error.name} is not installed",
            remedy="install vmgate with the extra `fleet`",
        ) from error


@dataclass(frozen=True, slots=True)
class Desk:
    """An administrator's way to a fleet.

    Attributes:
        settings: of the service.
        database: open.
        trail: for what is done here.
        now: seconds since 1970 UTC.
    """

    settings: FleetSettings
    database: Database
    trail: Trail
    now: int

    def read(self, look: Callable[[Connection], T]) -> T:
        """Look something up."""
        with self.database.read() as connection:
            return look(connection)

    def change(self, event: str, job: Callable[[Connection], tuple[T, str]], **details: str) -> T:
        """Change something and record it, both or neither; the job returns a result and what it was about."""

        def both(connection: Connection) -> T:
            result, subject = job(connection)
            self.trail.write(connection, self.now, event, "done", subject=subject, actor=administrator(), **details)
            return result

        return self.database.write(both)


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """Open the service of a folder, whether it runs or not.

    Raises:
        LibraryMissing: its libraries are not installed.
        FolderWrong: it is no service's folder.
        SchemaOther: its database is of another version.
    """
    with libraries():
        from fleet.database import Database
        from fleet.migrate import require_current
        from fleet.settings import FleetFolder
        from fleet.trail import Trail

    place = FleetFolder(folder.absolute())
    settings = place.load()
    database = Database(place.database(settings))
    try:
        require_current(database)
        yield Desk(settings, database, Trail(str(uuid.uuid4())), int(time.time()))
    finally:
        database.close()


def administrator() -> str:
    """The person behind the command, as far as this process knows."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = "?"
    behind = os.environ.get("SUDO_USER", "")
    by = f" for {behind}" if behind.replace("-", "").replace("_", "").isalnum() and len(behind) <= 32 else ""
    return f"uid {os.getuid()} ({name}){by}"
