# SPDX-License-Identifier: Apache-2.0
"""Accounts, lockout and sessions by a clock of the test's own (FIA_AFL.1, FIA_PMG_EXT.1)."""

from __future__ import annotations

import string
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from documents.management import ADMINISTRATOR, AUDITOR, OPERATOR
from fleet import account_rules, admins, passwords
from fleet.account_rules import RANGES, Rules
from fleet.admins import Account
from fleet.database import Database
from fleet.errors import (
    AdminExists,
    AdminUnknown,
    LastAdministrator,
    LoginRefused,
    PasswordWeak,
    RulesWrong,
)
from fleet.logins import TOUCH_SECONDS, Logins, Person
from fleet.migrate import migrate
from fleet.tables import sessions, settings
from fleet.trail import Trail, records

NOW = 1_800_000_000
PASSWORD = "correct horse battery staple"
HERE = "192.0.2.7"


class Site:
    """A database, a clock, and one account."""

    def __init__(self, database: Database) -> None:
        self.database, self.now = database, NOW
        trail = Trail(str(uuid.uuid4()))
        self.logins = Logins(database, bytes(32), trail, lambda: self.now)
        self.add("ada", ADMINISTRATOR)

    def add(self, name: str, role: str) -> None:
        account = Account(
            id=str(uuid.uuid4()), name=name, role=role, password=passwords.kept(PASSWORD, 1_000), renew=False
        )
        self.database.write(lambda connection: admins.create(connection, account, self.now))

    def rule(self, **wanted: str) -> None:
        self.database.write(
            lambda connection: account_rules.write(connection, account_rules.read(connection).changed(wanted))
        )

    def tries(self, password: str = "wrong", name: str = "ada") -> bool:
        try:
            self.logins.log_in(name, password, HERE)
        except LoginRefused:
            return False
        return True

    def who(self, token: str, *, active: bool = True) -> Person:
        found = self.logins.who(token, active=active)
        assert found is not None
        return found

    def events(self) -> list[tuple[str, str, str]]:
        with self.database.read() as connection:
            return [(r.event, r.outcome, dict(r.details).get("cause", "")) for r in records(connection, 1_000)]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    cheap = passwords.kept("nobody's", 2)
    monkeypatch.setattr(passwords, "nobodys", lambda: cheap)
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    migrate(database)
    yield Site(database)
    database.close()


def test_the_last_failure_that_is_allowed_does_not_lock_and_the_next_one_does(site: Site) -> None:
    site.rule(failures="3", lock_minutes="10")
    assert [site.tries(), site.tries(), site.tries(PASSWORD)] == [False, False, True]
    # Counted from the beginning, since one was right.
    assert [site.tries(), site.tries(), site.tries()] == [False, False, False]
    assert ("admin-lockout", "done", "") in site.events()
    assert not site.tries(PASSWORD), "the right one does not help"
    site.now += 600 - 1
    assert not site.tries(PASSWORD)
    site.now += 1
    assert site.tries(PASSWORD)


def test_after_a_lockout_counting_begins_anew(site: Site) -> None:
    site.rule(failures="2", lock_minutes="1")
    assert [site.tries(), site.tries()] == [False, False]
    site.now += 60
    assert [site.tries(), site.tries(PASSWORD)] == [False, True]


def test_a_lockout_without_an_end_ends_by_an_administrator(site: Site) -> None:
    site.rule(failures="1", lock_minutes="0")
    assert not site.tries()
    site.now += 10**9
    assert not site.tries(PASSWORD)
    site.database.write(lambda connection: admins.unlock(connection, "ada"))
    assert site.tries(PASSWORD)


def test_many_tries_at_a_time_are_not_more_than_one_after_the_other(site: Site) -> None:
    """Those beyond the limit are refused unseen: of twenty at once, the right one among the last finds it locked."""
    site.rule(failures="4", lock_minutes="10")
    looked, real = list[str](), passwords.is_right

    def counting(password: str, known: str) -> bool:
        if known != passwords.nobodys():
            looked.append(password)
        return real(password, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "is_right", counting)
        threads = [threading.Thread(target=site.tries, args=(f"guess {n}",)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(looked) == 4
    assert not site.tries(PASSWORD)


def test_failures_are_recorded_with_where_they_came_from_and_not_without_end(site: Site) -> None:
    for number in range(60):
        assert not site.tries(name=f"nobody-{number}")
    assert not site.tries()
    found = [event for event in site.events() if event[0] == "admin-log-in"]
    assert ("admin-log-in", "refused", "there is no such account") in found
    assert found[-1] == ("admin-log-in", "refused", "the password is wrong")
    assert len(found) < 30
    with site.database.read() as connection:
        assert all(HERE in record.actor for record in records(connection, 100) if record.event == "admin-log-in")


def test_a_session_that_nobody_uses_ends(site: Site) -> None:
    site.rule(idle_minutes="5")
    token = site.logins.log_in("ada", PASSWORD, HERE)
    for _ in range(3):
        site.now += 299
        site.who(token)
    # A page that looks again by itself is no use of it.
    site.now += 299
    site.who(token, active=False)
    site.now += 1
    assert site.logins.who(token, active=True) is None
    assert ("admin-session-end", "done", "idle") in site.events()
    assert site.logins.who(token, active=True) is None


def test_a_session_ends_in_any_case(site: Site) -> None:
    site.rule(session_hours="1", idle_minutes="10")
    token = site.logins.log_in("ada", PASSWORD, HERE)
    for _ in range(11):
        site.now += 300
        site.who(token)
    site.now += 300
    assert site.logins.who(token, active=True) is None
    assert ("admin-session-end", "done", "hours") in site.events()


def test_a_clock_that_goes_back_ends_sessions(site: Site) -> None:
    token = site.logins.log_in("ada", PASSWORD, HERE)
    site.now -= 1
    assert site.logins.who(token, active=True) is None


def test_use_is_written_down_now_and_then(site: Site) -> None:
    token = site.logins.log_in("ada", PASSWORD, HERE)

    def seen() -> int:
        with site.database.read() as connection:
            return int(connection.execute(select(sessions.c.seen)).scalar_one())

    site.now += TOUCH_SECONDS - 1
    site.who(token)
    assert seen() == NOW
    site.now += 1
    site.who(token)
    assert seen() == site.now


def test_the_password_asked_for_again_is_counted_too_and_ends_the_sessions(site: Site) -> None:
    site.rule(failures="3")
    token, other = (site.logins.log_in("ada", PASSWORD, HERE) for _ in range(2))
    person = site.who(token)
    site.logins.prove(person, PASSWORD, HERE)
    for _ in range(3):
        with pytest.raises(LoginRefused):
            site.logins.prove(person, "guess", HERE)
    assert site.logins.who(token, active=True) is None
    assert site.logins.who(other, active=True) is None


def test_forms_are_of_one_session(site: Site) -> None:
    tokens = [site.logins.log_in("ada", PASSWORD, HERE) for _ in range(2)]
    forms = [site.who(token).form for token in tokens]
    assert forms[0] != forms[1]
    assert site.who(tokens[0]).form == forms[0]


def test_rules_that_cannot_be_read_let_nobody_in(site: Site) -> None:
    for text in ("", "{}", '{"length":15}', "[1]", '{"banner":"","failures":0}'):
        site.database.write(lambda connection, text=text: _replace(connection, text))
        with pytest.raises(RulesWrong):
            site.logins.log_in("ada", PASSWORD, HERE)


def _replace(connection: Connection, text: str) -> None:
    connection.execute(settings.delete())
    connection.execute(insert(settings).values(name="accounts", text=text))


def test_accounts_have_one_name_and_a_role_of_the_table(site: Site) -> None:
    with pytest.raises(AdminExists):
        site.add("ada", AUDITOR)
    for name, role in (("eve", "root"), ("eve", "user"), ("", AUDITOR), ("Eve", AUDITOR), ("a b", AUDITOR)):
        with pytest.raises(RulesWrong):
            site.add(name, role)
    with pytest.raises(AdminUnknown):
        site.database.write(lambda connection: admins.lock(connection, "nobody"))


def test_the_last_administrator_stays(site: Site) -> None:
    jobs = (
        lambda connection: admins.set_role(connection, "ada", OPERATOR),
        lambda connection: admins.lock(connection, "ada"),
        lambda connection: admins.remove(connection, "ada"),
    )
    site.add("olga", OPERATOR)
    site.add("bob", ADMINISTRATOR)
    site.database.write(lambda connection: admins.lock(connection, "bob"))
    for job in jobs:
        with pytest.raises(LastAdministrator):
            site.database.write(job)
    site.database.write(lambda connection: admins.unlock(connection, "bob"))
    site.database.write(jobs[1])


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("fourteen chars", "fewer than 15"), ("x" * 40, "different"), ("abcab" * 4, "different"),
        ("my name is ADA so what", "name"), ("x" * 1_025, "more than"), ("fifteen chars \n no", "control"),
        ("fifteen chars \ud800 no", "control"),
    ],
)  # fmt: skip
def test_passwords_that_may_not_be_set(password: str, why: str) -> None:
    with pytest.raises(PasswordWeak) as caught:
        passwords.require_good(password, "ada", 15)
    assert why in caught.value.cause


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=15, max_size=200))
def test_any_other_character_may_stand_in_a_password(password: str) -> None:
    if len(set(password)) < passwords.DISTINCT:
        password += "abcde"
    passwords.require_good(password, "\0", 15)
    known = passwords.kept(password, 2)
    assert passwords.is_right(password, known)
    assert not passwords.is_right(password + "x", known)


def test_each_class_of_the_requirement() -> None:
    whole = string.ascii_letters + string.digits + "!@#$%^&*()"
    passwords.require_good(whole, "\0", 64)
    assert passwords.is_right(whole, passwords.kept(whole, 2))
    # However the keyboard composes it.
    assert passwords.is_right("a\u0308bcdefghijklmnop", passwords.kept("\u00e4bcdefghijklmnop", 2))


@given(st.text(max_size=80))
def test_what_was_kept_in_no_known_form_fits_nothing(known: str) -> None:
    assert not passwords.is_right("password", known)
    assert not passwords.is_right("password", f"pbkdf2-sha512$0$AAAA${known}")


def test_the_same_password_is_kept_differently_each_time() -> None:
    assert passwords.kept(PASSWORD, 2) != passwords.kept(PASSWORD, 2)


@given(st.dictionaries(st.sampled_from([*RANGES, "banner", "x"]), st.text(max_size=8)))
def test_rules_are_in_their_ranges_or_refused(wanted: dict[str, str]) -> None:
    try:
        found = Rules().changed(wanted)
    except RulesWrong:
        return
    assert all(getattr(found, name) in allowed for name, allowed in RANGES.items())
    assert all(str(getattr(found, name)) == str(int(text)) for name, text in wanted.items() if name in RANGES)


@pytest.mark.parametrize("name", list(RANGES))
def test_ranges_end_where_they_end(name: str) -> None:
    low, high = RANGES[name][0], RANGES[name][-1]
    assert getattr(Rules().changed({name: str(high)}), name) == high
    assert getattr(Rules().changed({name: str(low)}), name) == low
    for wrong in (low - 1, high + 1):
        with pytest.raises(RulesWrong):
            Rules().changed({name: str(wrong)})
