# SPDX-License-Identifier: Apache-2.0
"""Back a whole service up into a folder, and make a service of such a folder: settings, keys, roots, database.

A fleet that comes back is one that forgot: what was decided after the copy is not known any more. So that nothing of
that time counts twice, a service that was restored has a new secret, so that nonces and enrolments of before are worth
nothing, no session, and no token that was not used. What cannot be made good stands in the guide.

Settings come last, both ways: a folder that was cut off half-way is no service, and no backup.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, update

from content import durable
from fleet.copying import copy_database, make_database
from fleet.database import Database
from fleet.errors import FolderExists, FolderWrong
from fleet.migrate import require_current
from fleet.settings import SECRET_SIZE, FleetFolder
from fleet.tables import nonces, sessions, tokens
from fleet.trail import Trail, verify_trail

DATABASE: Final = "database.copy"
"""Name of the database's copy in a backup."""

FOLDERS: Final = ("keys", "tls", "roots")
"""What is copied as it is, with all that is in it."""

_PUBLIC: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came back.

    Attributes:
        records: of the fleet's trail, up to the backup.
        tokens: that had not been used, and count no more.
        sessions: that were ended.
    """

    records: int
    tokens: int
    sessions: int


def back_up(root: Path, target: Path, now: int) -> int:
    """Copy a service, running or not, into a new folder; returns how many files it has.

    Raises:
        FolderWrong: it is no service.
        FolderExists: the target is there.
        SchemaOther: the database is of another version.
        DatabaseFailed: the database was not copied.
        ContentError: something could not be read or written.
    """
    folder = FleetFolder(root.absolute())
    settings = folder.load()
    _require_absent(target)
    database = Database(folder.database(settings))
    try:
        require_current(database)
        trail = Trail(str(uuid.uuid4()))
        # First, so that the copy says that it is one.
        database.write(
            lambda connection: trail.write(
                connection, now, "fleet-backup", "done", subject=settings.name, actor="administrator",
                target=target.name,
            )
        )  # fmt: skip
    finally:
        database.close()
    durable.make_directory(target)
    count = sum(_copy_tree(folder.root / name, target / name) for name in FOLDERS)
    copy_database(folder.database(settings), target / DATABASE)
    durable.copy_file(folder.settings, FleetFolder(target).settings, _PUBLIC)
    return count + 2


def restore(backup: Path, root: Path, now: int) -> Restored:
    """Make a service of a backup, in a new folder.

    Raises:
        FolderWrong: it is no backup, or was cut off.
        FolderExists: there is a service.
        SchemaOther: the database is of another version; restore with that one, and migrate.
        AuditBroken: the fleet's trail in it is not what was written.
        DatabaseFailed: the database was not made: it is damaged, or there is one.
        ContentError: something could not be read or written.
    """
    source, folder = FleetFolder(backup.absolute()), FleetFolder(root.absolute())
    settings = source.load()
    if not (source.root / DATABASE).is_file():
        raise FolderWrong("nothing was restored", cause=f"{backup} has no {DATABASE}", remedy="name a backup")
    if folder.settings.exists():
        raise FolderExists(
            "nothing was restored", cause=f"{root} is a service's folder", remedy="choose another folder"
        )
    durable.make_directory(folder.root)
    for name in FOLDERS:
        _copy_tree(source.root / name, folder.root / name)
    durable.write_file(folder.secret, secrets.token_bytes(SECRET_SIZE))
    make_database(folder.database(settings), source.root / DATABASE)
    database = Database(folder.database(settings))
    try:
        require_current(database)
        with database.read() as connection:
            records = verify_trail(connection)
        gone = database.write(lambda connection: _forget(connection, settings.name, now))
    finally:
        database.close()
    durable.copy_file(source.settings, folder.settings, _PUBLIC)
    return Restored(records=records, tokens=gone[0], sessions=gone[1])


def _forget(connection: Connection, name: str, now: int) -> tuple[int, int]:
    unused = update(tokens).where(tokens.c.used == 0, ~tokens.c.withdrawn).values(withdrawn=True)
    gone = int(connection.execute(unused).rowcount), int(connection.execute(delete(sessions)).rowcount)
    connection.execute(delete(nonces))
    trail = Trail(str(uuid.uuid4()))
    trail.write(
        connection, now, "fleet-restore", "done", subject=name, actor="administrator",
        tokens=str(gone[0]), sessions=str(gone[1]),
    )  # fmt: skip
    return gone


def _copy_tree(source: Path, target: Path) -> int:
    """Files below a folder, each durably and with its mode; links and what is unfinished are left out."""
    durable.make_directory(target)
    count = 0
    for path in sorted(source.iterdir()):
        if path.is_dir() and not path.is_symlink():
            count += _copy_tree(path, target / path.name)
        elif path.is_file() and not path.name.startswith("."):
            durable.copy_file(path, target / path.name, path.stat().st_mode & 0o777)
            count += 1
    return count


def _require_absent(target: Path) -> None:
    if target.exists():
        raise FolderExists("nothing was backed up", cause=f"{target} is there", remedy="name a new folder")
