# SPDX-License-Identifier: Apache-2.0
"""Bring a fleet's tables forward to this version, in one transaction, and see that they are of it.

With Alembic, but without its configuration files: where the steps lie and what they are run on is known here. Nothing
is brought back: who needs that has a backup.
"""

from __future__ import annotations

from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from fleet import migrations
from fleet.database import Database
from fleet.errors import SchemaOther
from fleet.tables import SCHEMA

_PLACE: Final = migrations.__path__[0]


def migrate(database: Database) -> tuple[str, str]:
    """Bring the tables forward; returns the versions before and after, the first one empty for a new database.

    Raises:
        SchemaOther: they are of a newer vmgate.
        DatabaseFailed: nothing was changed.
    """
    return database.write(_migrate)


def require_current(database: Database) -> None:
    """Require that the tables are of this version.

    Raises:
        SchemaOther: they are not.
        DatabaseFailed: the database does not answer.
    """
    with database.read() as connection:
        found = _found(connection)
    if found != SCHEMA:
        raise _other(f"its tables are of version {found or 'none'}, and this vmgate's of {SCHEMA}")


def _found(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _migrate(connection: Connection) -> tuple[str, str]:
    script = ScriptDirectory(_PLACE)

    def steps(revision: Any, _context: MigrationContext) -> Any:
        # As Alembic's own manual calls it where there is no configuration file.
        return script._upgrade_revs(SCHEMA, revision)  # noqa: SLF001

    before = _found(connection)
    try:
        # The transaction is the caller's: Alembic neither begins nor ends one.
        context = MigrationContext.configure(connection, opts={"fn": steps, "transactional_ddl": False})
        with Operations.context(context):
            context.run_migrations()
    except CommandError as error:
        raise _other(f"its tables are of version {before}, which this vmgate does not know") from error
    return before, SCHEMA


def _other(cause: str) -> SchemaOther:
    return SchemaOther(
        "the fleet's database was not used", cause=cause, remedy="run `vmgate fleet migrate`, or the right vmgate"
    )
