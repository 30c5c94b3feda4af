# SPDX-License-Identifier: Apache-2.0
"""The one way to a fleet's database: SQLite in WAL mode, or PostgreSQL; reading, and writing as a whole or not at all.

What belongs together is one job, a function that gets a connection: all that it writes is there afterwards, durably,
or nothing is. On SQLite, where a commit costs a synchronisation of the disk, jobs that wait are committed together,
each in a savepoint of its own, and none hears of success before the disk has it. This module knows no table.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from documents.errors import VmgateError
from fleet.errors import DatabaseFailed, FolderWrong

T = TypeVar("T")

TOGETHER: Final = 64
"""Most jobs of one commit."""

BUSY_SECONDS: Final = 20
"""For which SQLite waits for another process's commit."""

CONNECTIONS: Final = 16
_SQLITE: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_SECONDS * 1_000}",
    "PRAGMA trusted_schema=OFF",
)


class Database:
    """A fleet's database. Close it: jobs that were accepted are finished.

    Args:
        address: SQLAlchemy's: ``sqlite:////absolute/path`` or ``postgresql+psycopg://...``.

    Raises:
        FolderWrong: it is no such address.
    """

    def __init__(self, address: str) -> None:
        try:
            url = make_url(address)
            self.sqlite = url.get_backend_name() == "sqlite"
            self._engine = create_engine(
                url,
                poolclass=QueuePool,
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=BUSY_SECONDS,
                pool_pre_ping=not self.sqlite,
                hide_parameters=True,
            )
        except (ArgumentError, ImportError) as error:
            raise FolderWrong("the database was not opened", cause=str(error), remedy="correct fleet.toml") from error
        if self.sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._jobs: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database. Nothing is kept of what is written with it.

        Raises:
            DatabaseFailed: the database does not answer.
        """
        with _translated(), self._engine.connect() as connection:
            yield connection
            connection.rollback()

    def write(self, job: Callable[[Connection], T]) -> T:
        """Do a job and return what it returned, once what it wrote is durable.

        Raises:
            DatabaseFailed: nothing was written.
            VmgateError: whatever the job raised; nothing was written.
        """
        if not self.sqlite:
            with _translated(), self._engine.begin() as connection:
                return job(connection)
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise failed("the service is ending")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="database", daemon=True)
                self._writer.start()
            self._jobs.put((job, done))
        return done.result()

    def close(self) -> None:
        """Finish what was accepted, and let go of the database."""
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
        if writer is not None:
            self._jobs.put(None)
            writer.join()
        self._engine.dispose()

    def _write_all(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = [first], False
            while len(batch) < TOGETHER and not self._jobs.empty():
                item = self._jobs.get()
                if item is None:
                    last = True
                    break
                batch.append(item)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        """One transaction for all; who fails does so alone, unless the commit itself does."""
        outcomes: list[tuple[Future[Any], Any, VmgateError | None]] = []
        try:
            with (
                _translated(),
                self._engine.connect().execution_options(writes=True) as connection,
                connection.begin(),
            ):
                outcomes += [(done, *_attempt(connection, job)) for job, done in batch]
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits for each job, and more will come
            outcomes = [(done, None, _refusal(error)) for _, done in batch]
        for done, result, refusal in outcomes:
            if refusal is None:
                done.set_result(result)
            else:
                done.set_exception(refusal)


def _attempt(connection: Connection, job: Callable[[Connection], Any]) -> tuple[Any, VmgateError | None]:
    """Do one job of several: what it wrote goes if it fails.

    Raises:
        DatabaseFailed: all that was done in this transaction is gone, as after a full disk.
    """
    savepoint = connection.begin_nested()
    try:
        result = job(connection)
    except Exception as error:  # noqa: BLE001 - a bug in one job must neither end the others nor let its caller wait
        refusal = _refusal(error)
        try:
            savepoint.rollback()
        except SQLAlchemyError as lost:
            raise (refusal if isinstance(refusal, DatabaseFailed) else _told(lost)) from lost
        return None, refusal
    savepoint.commit()
    return result, None


def _refusal(error: Exception) -> VmgateError:
    if isinstance(error, VmgateError):
        return error
    return _told(error) if isinstance(error, SQLAlchemyError) else _bug(error)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise _told(error) from error


def _told(error: SQLAlchemyError) -> DatabaseFailed:
    return failed(str(getattr(error, "orig", None) or error).splitlines()[0][:300])


def _bug(error: Exception) -> DatabaseFailed:
    return failed(f"a job ended in an error of vmgate itself: {type(error).__name__}: {error}"[:300])


def failed(cause: str) -> DatabaseFailed:
    """The error for a database that did not do its part."""
    return DatabaseFailed(
        "the fleet's database did not do what it was asked", cause=cause, remedy="look at the database and its disk"
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, and not before a SELECT or a CREATE TABLE.
    connection.isolation_level = None
    for pragma in _SQLITE:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that read before would be refused when it comes to write.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
