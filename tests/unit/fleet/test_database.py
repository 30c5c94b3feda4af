# SPDX-License-Identifier: Apache-2.0
"""What belongs together is written together: jobs that share a commit do not share their failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select, text

from documents.errors import VmgateError
from fleet.attestations import spend, sweep
from fleet.database import Database
from fleet.errors import DatabaseFailed, FolderWrong, NonceRefused, SchemaOther, StateWrong
from fleet.hosts import Filter, counted, listed, standing_of
from fleet.migrate import migrate, require_current
from fleet.minting import Mint
from fleet.states import STANDINGS, STATES
from fleet.tables import SCHEMA, hosts, metadata, nonces, state
from fleet.trail import Sparing, Trail, records, verify_trail

NOW = 1_800_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path}/fleet.db")
    migrate(found)
    yield found
    found.close()


def keep(connection: Connection, name: str) -> None:
    connection.execute(insert(state).values(name=name, number=1, text=""))


def names(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(state.c.name)).scalars())


def test_a_job_that_fails_takes_nobody_with_it(database: Database) -> None:
    """All of these wait for one commit, since the first one holds the writer until the others are there."""
    hold, outcomes = threading.Event(), dict[str, BaseException | None]()

    def job(name: str) -> None:
        def work(connection: Connection) -> None:
            keep(connection, name)
            if name == "first":
                hold.wait(10)
            if name == "refused":
                raise StateWrong("no", cause="no", remedy="no")
            if name == "bug":
                raise ZeroDivisionError(name)
            if name == "sql":
                connection.execute(text("SELECT * FROM no_such_table"))

        try:
            database.write(work)
            outcomes[name] = None
        except VmgateError as error:
            outcomes[name] = error

    threads = [
        threading.Thread(target=job, args=(name,)) for name in ("first", "refused", "bug", "sql", "good", "late")
    ]
    for thread in threads:
        thread.start()
    hold.set()
    for thread in threads:
        thread.join()
    assert {name for name, error in outcomes.items() if error is None} == {"first", "good", "late"}
    assert isinstance(outcomes["refused"], StateWrong)
    assert isinstance(outcomes["bug"], DatabaseFailed)
    assert isinstance(outcomes["sql"], DatabaseFailed)
    assert names(database) == {"first", "good", "late"}


def test_a_commit_that_fails_fails_for_all_and_keeps_nothing(database: Database) -> None:
    """A disk that is full: the page count is bounded below what the jobs need."""
    database.write(lambda connection: keep(connection, "before"))

    def fill(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
        for number in range(2_000):
            keep(connection, f"much {number}")

    with pytest.raises(DatabaseFailed) as caught:
        database.write(fill)
    assert "full" in caught.value.cause
    assert names(database) == {"before"}
    database.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=100000") and None)
    database.write(lambda connection: keep(connection, "after"))
    assert names(database) == {"before", "after"}


def test_who_comes_after_the_end_is_told(database: Database) -> None:
    database.write(lambda connection: keep(connection, "before"))
    database.close()
    with pytest.raises(DatabaseFailed):
        database.write(lambda connection: keep(connection, "after"))


def test_what_is_written_while_reading_is_not_kept(database: Database) -> None:
    with database.read() as connection:
        keep(connection, "by mistake")
    assert names(database) == set()


@pytest.mark.parametrize("address", ["", "nothing", "sqlite", "oracle://x", "sqlite:////no/such/folder/x.db"])
def test_an_address_that_leads_nowhere_is_refused(address: str) -> None:
    with pytest.raises((FolderWrong, DatabaseFailed)):
        require_current(Database(address))


def test_tables_are_those_that_the_code_has(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_tables_of_another_version_are_left_alone(tmp_path: Path, database: Database) -> None:
    require_current(database)
    assert migrate(database) == (SCHEMA, SCHEMA)
    database.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num='9999'")) and None
    )
    for use in (require_current, migrate):
        with pytest.raises(SchemaOther):
            use(database)
    empty = Database(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(SchemaOther):
        require_current(empty)
    empty.close()


@pytest.mark.parametrize("old", [f"{number:04}" for number in range(1, int(SCHEMA))])
def test_tables_of_each_earlier_version_come_forward_with_what_is_in_them(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    found = Database(f"sqlite:///{tmp_path}/old.db")
    with monkeypatch.context() as patch:
        patch.setattr("fleet.migrate.SCHEMA", old)
        assert migrate(found) == ("", old)
    values = {**EMPTY, "id": "1", "name": "desk", "ek": "1", "state": "active", "status": "", "judged": 0, "expires": 0}
    found.write(lambda connection: connection.execute(insert(hosts).values(values)) and None)
    with pytest.raises(SchemaOther):
        require_current(found)
    assert migrate(found) == (old, SCHEMA)
    with found.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(select(hosts.c.name)).scalar_one() == "desk"
    found.close()


def test_a_migration_that_is_interrupted_did_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.migrations.versions import first

    found = Database(f"sqlite:///{tmp_path}/cut.db")
    real = first.op.create_index

    def cut(name: str, *arguments: object, **more: object) -> None:
        if name == "verdicts_host":
            raise ZeroDivisionError("cut")
        real(name, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_index", cut)
        with pytest.raises(DatabaseFailed):
            migrate(found)
    with found.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one() == 0
    assert migrate(found) == ("", SCHEMA)
    found.close()


def test_a_nonce_is_spent_once_whoever_comes_first(database: Database) -> None:
    mint = Mint(bytes(32))
    answered = mint.check("host", mint.issue("host", NOW), NOW + 1)
    outcomes: list[bool] = []

    def answer() -> None:
        try:
            database.write(lambda connection: spend(connection, answered))
            outcomes.append(True)
        except NonceRefused:
            outcomes.append(False)

    threads = [threading.Thread(target=answer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    # Forgotten when it is too old to be answered anyway, and not before.
    assert database.write(lambda connection: sweep(connection, answered.expires - 1)) == 0
    assert database.write(lambda connection: sweep(connection, answered.expires)) == 1
    with pytest.raises(NonceRefused):
        mint.check("host", answered.head + bytes(16), answered.expires)


def test_the_trail_is_one_chain_and_shows_what_was_done_to_it(database: Database) -> None:
    trail = Trail("00000000-0000-4000-8000-000000000000")

    def write(connection: Connection, subject: str = "one\x1b[2J") -> None:
        trail.write(connection, NOW, "host-approve", "done", subject=subject, actor="", cause="\u202ex" * 2_000)

    for _ in range(3):
        database.write(write)
    with pytest.raises(DatabaseFailed):
        database.write(lambda connection: trail.write(connection, NOW, "no-event", "done", subject="x", actor="x"))
    with database.read() as connection:
        assert verify_trail(connection) == 3
        found = list(records(connection, 2))
    assert [record.sequence for record in found] == [2, 3]
    assert "\x1b" not in found[0].subject
    database.write(lambda connection: connection.execute(text("DELETE FROM audit WHERE sequence=2")) and None)
    with database.read() as connection, pytest.raises(VmgateError):
        verify_trail(connection)


def test_refusals_are_recorded_as_far_as_there_is_room() -> None:
    sparing = Sparing()
    taken = [sparing.take("FL011", NOW) for _ in range(50)]
    assert taken[:20] == [0] * 20
    assert taken[20:] == [None] * 30
    assert sparing.take("KY030", NOW) == 30
    assert sparing.take("FL011", NOW + 60) == 0


ROWS = st.lists(
    st.tuples(
        st.sampled_from(STATES),
        st.sampled_from(("affirming", "warning", "contraindicated", "none", "")),
        st.integers(NOW - 3, NOW + 3),
        st.integers(NOW - 3, NOW + 3),
    ),
    max_size=20,
)


@given(rows=ROWS)
def test_the_database_counts_as_the_pure_function_says(rows: list[tuple[str, str, int, int]]) -> None:
    found = Database("sqlite:///file:x?mode=memory&uri=true")
    with found.read() as connection:
        metadata.create_all(connection)
        for number, (state_, status, judged, expires) in enumerate(rows):
            values = {"state": state_, "status": status, "judged": judged, "expires": expires}
            connection.execute(
                insert(hosts).values({**EMPTY, "id": str(number), "name": f"h{number:02}", "ek": str(number), **values})
            )
        everyone = connection.execute(select(hosts)).all()
        expected = {name: [row.name for row in everyone if standing_of(row, NOW) == name] for name in STANDINGS}
        assert counted(connection, NOW) == {name: len(expected[name]) for name in counted(connection, NOW)}
        for name in STANDINGS:
            assert [host["name"] for host in listed(connection, Filter(standing=name), NOW)] == sorted(expected[name])
        assert connection.execute(select(func.count()).select_from(nonces)).scalar_one() == 0
    found.close()


EMPTY = {
    "ak": b"", "request_key": b"", "chip": False, "manufacturer": "", "channel": "platform", "enrolled": 0,
    "contact": 0, "version": 1, "seen": b"", "level": "", "release": "", "cause": "", "result": "", "audit_sequence": 0,
    "audit_hash": "0" * 64, "audit_signed": 0,
}  # fmt: skip
