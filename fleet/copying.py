# SPDX-License-Identifier: Apache-2.0
"""One whole copy of a fleet's database, while the service goes on, and a database made of such a copy.

SQLite copies by itself; PostgreSQL's own programs do it for theirs. A copy shows one state. Knows no table.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url

from content import durable
from fleet.database import failed
from fleet.errors import DatabaseFailed

HOURS: Final = 4
"""Longest that PostgreSQL's programs may take."""

_SAID: Final = 300


def copy_database(address: str, target: Path) -> None:
    """Write a copy of a database to a file that is not there yet.

    Args:
        address: SQLAlchemy's.
        target: the file; it has its name once it is whole.

    Raises:
        DatabaseFailed: it could not be copied.
        ContentError: the file could not be written.
    """
    url = make_url(address)
    unfinished = durable.temporary(target.parent)
    try:
        if url.get_backend_name() == "sqlite":
            _copy_sqlite(Path(url.database or ""), unfinished)
        else:
            _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={unfinished}")
        durable.copy_file(unfinished, target)
    finally:
        durable.remove(unfinished)


def make_database(address: str, source: Path) -> None:
    """Make a database of a copy. PostgreSQL's must be there and empty, SQLite's must not be there.

    Raises:
        DatabaseFailed: it could not be made, the copy is damaged, or there is one.
        ContentError: a file could not be read or written.
    """
    url = make_url(address)
    if url.get_backend_name() != "sqlite":
        options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
        _run(url, "pg_restore", *options, f"--dbname={_named(url)}", str(source), named=True)
        return
    place = Path(url.database or "")
    if place.exists():
        raise failed(f"{place} is there")
    with _told(), closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise failed(f"{source} is damaged: {str(found)[:_SAID]}")
    durable.copy_file(source, place)


def _copy_sqlite(place: Path, target: Path) -> None:
    if not place.is_file():
        raise failed(f"{place} is not there")
    with (
        _told(),
        closing(sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")


def _run(url: URL, program: str, *arguments: str, named: bool = False) -> None:
    command = [program, *arguments] if named else [program, *arguments, _named(url)]
    try:
        done = subprocess.run(
            command, env=_environment(url), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=HOURS * 3_600, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise failed(f"{program} did not run: {error}"[:_SAID]) from error
    if done.returncode:
        raise failed(f"{program}: {' '.join(done.stderr.split())}"[:_SAID])


def _named(url: URL) -> str:
    """The address as libpq has it, without the password, which everybody could see."""
    bare = URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database, query=url.query
    )
    return bare.render_as_string()


def _environment(url: URL) -> Mapping[str, str]:
    own = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
    kept = {name: text for name, text in os.environ.items() if name.startswith("PG")}
    return {**kept, **own, **({"PGPASSWORD": str(url.password)} if url.password else {})}


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseFailed(
            "the database was not copied", cause=str(error)[:_SAID], remedy="look at the file and its disk"
        ) from error
