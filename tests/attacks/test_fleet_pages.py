# SPDX-License-Identifier: Apache-2.0
"""The pages of a fleet's service under attack: who may not, does not, and is recorded. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from lxml import html
from sqlalchemy import select
from starlette.routing import Route

from documents.management import ADMINISTRATOR, ALL, AUDITOR, FLEET_FUNCTIONS, FLEET_ROLES, OPERATOR, function_of
from fleet import app
from fleet.pages.wiring import PAGES
from fleet.tables import admins, sessions
from lab.fleet_service import Caller, Service, serving
from lab.paper_host import PaperHost
from lab.person import OWN_PASSWORD, PASSWORD, Person, Seen, password_file, person

HOSTS = "/v1/"
FOR_PROGRAMS = {"/healthz", "/readyz", "/metrics", "/openapi.json"}
FOR_EVERYBODY = {"/login", "/static/{name}"}


class Site:
    """A service with one person of each role, and a host."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self.service, self.caller = service, caller
        service.run("admin", "rules", "--failures", "20")
        self.people = {role: person(service, caller, f"the-{role}", role) for role in FLEET_ROLES}
        self.host = PaperHost(1)
        caller.enrol(self.host, service.token())
        assert caller.attest(self.host).status == "warning"

    @property
    def admin(self) -> Person:
        return self.people[ADMINISTRATOR]

    def state(self) -> str:
        return str(self.service.run("show", self.host.name)["state"])

    def names(self) -> set[str]:
        return {one["name"] for one in self.service.run("admin", "list")["administrators"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("pages") / "service") as (service, caller):
        yield Site(service, caller)


def test_every_path_is_a_hosts_a_programs_or_a_page_of_the_table(site: Site) -> None:
    served = {(route.path, method) for route in _routes(site) for method in (route.methods or set()) - {"HEAD"}}
    pages = {(page.path, page.method) for page in PAGES}
    others = {path for path, _ in served - pages}
    assert pages <= served
    assert {path for path in others if not path.startswith(HOSTS)} == FOR_PROGRAMS | {"/static/{name}"}
    assert {page.path for page in PAGES if not page.verb} == {"/login"}
    assert sorted(page.verb for page in PAGES if page.verb) == sorted(v for f in FLEET_FUNCTIONS for v in f.verbs)


def _routes(site: Site) -> list[Route]:
    return [route for route in app.build(site.service.folder).routes if isinstance(route, Route)]


def test_each_path_is_for_the_roles_of_the_table_and_for_nobody_else(site: Site) -> None:
    """Every path of the router, with every role and with nobody: a page that was forgotten here is one too many."""
    tried = 0
    for route in _routes(site):
        if route.path.startswith(HOSTS) or route.path in FOR_PROGRAMS | FOR_EVERYBODY:
            continue
        for method in (route.methods or set()) - {"HEAD"}:
            (page,) = [page for page in PAGES if (page.path, page.method) == (route.path, method)]
            function = function_of(FLEET_FUNCTIONS, page.verb)
            assert function is not None
            path = re.sub(r"\{\w+\}", "nobody-0", route.path)
            assert _try(Person(site.caller), method, path).to.startswith("/login"), path
            for role, who in site.people.items():
                if page.verb in ("log-out", "account/password"):
                    continue
                seen = _try(who, method, path)
                refused = seen.status == 403 and seen.code() == "FL066" and seen.says("is not for the role")
                assert refused == (function.roles.get(role) != ALL), (role, method, path, seen.status)
                if not refused and function.fresh:
                    assert seen.code() == "FL062", "the password was not asked for"
                tried += 1
    assert tried > 60
    assert ("page-refused", "refused", "FL066") in site.service.events()


def _try(who: Person, method: str, path: str) -> Seen:
    if method == "GET":
        return who.get(path)
    return who.post(path, {"form": who.form() if who.cookie else "", "name": "nobody-0"})


def _fits(path: str, action: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), action) is not None


def test_who_sees_a_button_has_the_function(site: Site) -> None:
    for role, who in site.people.items():
        for path in ("/", "/hosts", f"/hosts/{site.host.id}", "/tokens", "/assignments", "/rollouts"):
            shown = who.get(path).text
            for action in re.findall(r'action="(/[^"]*)"', shown):
                pages = [page for page in PAGES if page.method == "POST" and _fits(page.path, action)]
                if not pages:  # a search
                    assert re.search(rf'method="get" action="{action}"', shown)
                    continue
                function = function_of(FLEET_FUNCTIONS, pages[0].verb)
                assert function is not None
                assert function.roles.get(role) == ALL, (role, action)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1"},
        {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"sec_fetch_site": "none"},
    ],
)  # fmt: skip
def test_another_sites_form_is_refused(site: Site, headers: dict[str, str]) -> None:
    who, path = site.admin, f"/hosts/{site.host.id}/revoke"
    seen = who.post(path, {"form": who.form(), "reason": "forged"}, **headers)
    assert (seen.status, seen.code(), site.state()) == (403, "FL066", "active")
    assert (
        Person(site.caller, who.name).post("/login", {"name": who.name, "password": OWN_PASSWORD}, **headers).status
        == 403
    )


def test_a_form_of_another_session_is_refused(site: Site) -> None:
    path = f"/hosts/{site.host.id}/revoke"
    for form in ("", "0" * 64, site.people[OPERATOR].form()):
        seen = site.admin.post(path, {"form": form, "reason": "forged"})
        assert (seen.status, seen.code(), site.state()) == (403, "FL066", "active")
    twice = [("form", site.admin.form()), ("form", site.admin.form()), ("reason", "forged")]
    assert site.admin.post(path, twice).code() == "FL066"
    assert site.admin.post(path, {"form": site.admin.form()}, content_type="application/json").code() == "FL066"
    assert site.admin.post(path, [("x", str(n)) for n in range(300)]).code() == "FL066"
    assert site.state() == "active"


def test_what_changes_trust_takes_the_password_each_time(site: Site) -> None:
    fields = {"name": "mallory", "role": ADMINISTRATOR, "new": OWN_PASSWORD, "again": OWN_PASSWORD}
    for password in ("", "wrong", PASSWORD):
        assert site.admin.send("/administrators", **fields, password=password).code() == "FL062"
        assert "mallory" not in site.names()
    assert ("admin-proof", "refused", "") in site.service.events()
    assert site.admin.send("/administrators", **fields, password=OWN_PASSWORD).to == "/administrators"
    assert "mallory" in site.names()
    # Whose password somebody else knows can do nothing but change it.
    mallory = Person(site.caller, "mallory")
    mallory.log_in(OWN_PASSWORD)
    assert mallory.get("/hosts").to == "/account"
    assert mallory.send(f"/hosts/{site.host.id}/revoke", reason="forged").to == "/account"
    assert mallory.send("/account", old=OWN_PASSWORD, new=OWN_PASSWORD, again=OWN_PASSWORD).code() == "FL060"
    assert site.admin.send("/administrators/mallory/remove", password=OWN_PASSWORD).to == "/administrators"
    assert mallory.get("/account").to.startswith("/login"), "a removed account's session counts no more"


def test_a_session_is_one_browsers_and_ends(site: Site) -> None:
    who = person(site.service, site.caller, "leaver", AUDITOR)
    first, planted = who.cookie, Person(site.caller, who.name)
    planted.cookie = "A" * 43
    assert planted.log_in(OWN_PASSWORD).to == "/"
    assert planted.cookie not in ("A" * 43, first), "what was there before a log-in is worth nothing after it"
    assert planted.send("/log-out").to == "/login"
    planted.cookie, ended = "", planted.cookie
    assert not ended
    for worthless in ("", "A" * 43, first[:-1], first + "A", "x" * 5_000, "\x01"):
        other = Person(site.caller)
        other.cookie = worthless
        assert other.get("/").to.startswith("/login") or other.get("/").status in (400, 431)
    assert who.get("/").status == 200
    # The password is changed elsewhere, the role too, the account is locked: each ends what is open.
    for words in (
        ("role", who.name, OPERATOR), ("password", who.name, "--password-file", password_file(site.service.folder)),
        ("lock", who.name),
    ):  # fmt: skip
        site.service.run("admin", *words)
        assert who.get("/").to.startswith("/login"), words
        who.log_in(PASSWORD if words[0] == "password" else OWN_PASSWORD)
    assert who.log_in().status == 403
    assert site.service.run("admin", "unlock", who.name)
    assert who.log_in().to == "/"


ELSEWHERE = (
    "//evil.example", "https://evil.example", "/\\evil.example", "/%2f/evil", "javascript:alert(1)",
    "/x\r\nset-cookie: a=b",
)  # fmt: skip


def test_a_log_in_says_nothing_about_accounts_and_leads_nowhere_else(site: Site) -> None:
    answers = set()
    for name, password in (("nobody", "x"), ("the-auditor", "wrong"), ("", ""), ("the-auditor", "x" * 3_000)):
        seen = Person(site.caller, name).log_in(password)
        assert seen.status == 403
        answers.add(re.sub(r'value="[^"]*"', "", seen.text))
    assert len(answers) == 1
    assert ("admin-log-in", "refused", "") in site.service.events()
    for wanted in ELSEWHERE:
        who = Person(site.caller, "the-auditor")
        seen = who.post("/login", {"name": who.name, "password": OWN_PASSWORD, "next": wanted})
        assert (seen.status, seen.to) == (303, "/")
    who = Person(site.caller, "the-auditor")
    assert who.get("/audit").to == "/login?next=/audit"
    assert who.post("/login", {"name": who.name, "password": OWN_PASSWORD, "next": "/audit"}).to == "/audit"


TEXTS = (
    "<script>alert(1)</script>",
    "'; DROP TABLE hosts; --",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "%00",
    "\\",
)


@pytest.mark.parametrize("text", TEXTS)
def test_what_people_type_is_text_and_nothing_else(site: Site, text: str) -> None:
    assert site.admin.send(f"/hosts/{site.host.id}/label", name="note", text=text).to == f"/hosts/{site.host.id}"
    seen = site.admin.get(f"/hosts/{site.host.id}")
    assert seen.says(f"note={text}")
    assert "<script>alert" not in seen.text
    assert "<img" not in seen.text
    for path in ("/hosts", "/audit", f"/hosts/{site.host.id}/verdicts/1"):
        seen = site.admin._ask("GET", f"{path}?{_query(text)}", b"", {})
        assert seen.status in (200, 404)
        assert "<script>alert" not in seen.text
    assert site.state() == "active"


def _query(text: str) -> str:
    return urlencode(dict.fromkeys(("text", "label", "event", "host", "before", "after", "standing", "poll"), text))


def test_a_browser_is_told_to_do_no_more_than_it_should(site: Site) -> None:
    for seen in (
        Person(site.caller).get("/login"),
        site.admin.get("/"),
        site.admin.get("/hosts/none"),
        site.admin.get("/audit/export"),
    ):
        policy = seen.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert seen.headers["x-content-type-options"] == "nosniff"
        assert seen.headers["cache-control"] == "no-store"
        assert "max-age" in seen.headers["strict-transport-security"]
    for path in ("/", "/hosts", "/settings", "/administrators", "/audit", "/tokens", "/releases", "/account"):
        shown = site.admin.get(path).text
        for element in html.fromstring(shown).iter():
            assert element.tag != "style"
            assert element.tag != "script" or element.get("src") == "/static/htmx.min.js"
            assert not [name for name in element.attrib if name == "style" or name.startswith(("on", "hx-on"))]
            for name in ("src", "href", "action", "hx-get"):
                assert element.get(name, "/x")[0] in "/#", "nothing comes from elsewhere"
                assert not element.get(name, "").startswith("//")
    login = Person(site.caller, site.admin.name)
    cookie = login.post("/login", {"name": login.name, "password": OWN_PASSWORD}).headers["set-cookie"].lower()
    assert cookie.startswith("__host-")
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}


def test_somebody_is_left_who_can_make_accounts(site: Site) -> None:
    name = site.admin.name
    for path, more in (("role", {"role": AUDITOR}), ("lock", {}), ("remove", {})):
        seen = site.admin.send(f"/administrators/{name}/{path}", password=OWN_PASSWORD, **more)
        assert seen.code() == "FL065"
        assert name in site.names()
    assert site.admin.get("/administrators").status == 200


def test_bulk_does_what_it_can_and_says_what_it_could_not(site: Site) -> None:
    other = PaperHost(2)
    site.caller.enrol(other, site.service.token())
    chosen = [("host", other.id), ("host", "nobody-0"), ("event", "revoke"), ("reason", "lost")]
    who = site.people[OPERATOR]
    seen = who.post("/hosts/many", [("form", who.form()), *chosen])
    assert seen.says("1 done, 1 not")
    assert site.service.run("show", other.name)["state"] == "revoked"
    without = who.send("/hosts/many", event="revoke", host=site.host.id)
    assert without.says("0 done, 1 not"), "a reason is missing"
    assert who.send("/hosts/many", event="remove", host=site.host.id).code() == "FL066"
    assert site.state() == "active"


def test_what_hosts_may_take_is_said_with_the_password_and_shows_whom_it_is_for(site: Site) -> None:
    fields = {"name": "all", "position": "5", "label": "", "allow": "platform=1-3 desktop", "days": "30"}
    assert site.admin.send("/assignments", **fields).code() == "FL062"
    assert (
        site.admin.send("/assignments", **{**fields, "allow": "platform=3-1"}, password=OWN_PASSWORD).code() == "FL070"
    )
    assert site.service.run("assign", "list")["plans"] == []
    assert site.admin.send("/assignments", **fields, password=OWN_PASSWORD).to == "/assignments"
    (plan,) = site.service.run("assign", "list")["plans"]
    assert (plan["allow"], plan["hosts"]) == ("desktop platform=1-3", 1)
    path, who = f"/hosts/{site.host.id}", site.people[OPERATOR]
    assert who.send(f"{path}/lock").code() == "FL066", "a reason is missing"
    assert who.send(f"{path}/lock", reason="lost").to == path
    assert who.get(path).says("locked it at")
    assert who.send(f"{path}/lock", reason="lost").code() == "FL034"
    assert who.send(f"{path}/unlock").to == path
    assert site.admin.send("/assignments/all/remove", password=OWN_PASSWORD).to == "/assignments"
    assert site.service.run("assign", "list")["plans"] == []


def test_a_rollout_is_begun_with_the_password_and_stopped_with_a_reason(site: Site) -> None:
    fields = {"name": "spring", "channel": "platform", "number": "2", "label": "", "stages": "50, 100"}
    numbers = {"threshold": "5", "wait": "60"}
    assert site.admin.send("/rollouts", **fields, **numbers).code() == "FL062"
    for wrong, code in (({"stages": "50"}, "FL070"), ({"stages": "x"}, "FL066"), ({"number": "\u0661"}, "FL066")):
        assert site.admin.send("/rollouts", **{**fields, **numbers, **wrong}, password=OWN_PASSWORD).code() == code
    assert site.service.run("rollout", "list")["rollouts"] == []
    assert site.admin.send("/rollouts", **fields, **numbers, password=OWN_PASSWORD).to == "/rollouts"
    who = site.people[OPERATOR]
    assert who.send("/rollouts/spring/pause").code() == "FL066"
    assert who.send("/rollouts/spring/pause", reason="lunch").to == "/rollouts"
    assert who.get("/rollouts").says("lunch")
    assert who.send("/rollouts/spring/resume").to == "/rollouts"
    assert who.send("/rollouts/spring/resume").code() == "FL034"
    assert site.admin.send("/rollouts/spring/remove", password=OWN_PASSWORD).to == "/rollouts"
    assert site.service.run("rollout", "list")["rollouts"] == []


def test_a_leaked_database_lets_nobody_in(site: Site) -> None:
    rows = site.service.database()
    try:
        with rows.read() as connection:
            kept = [row.password for row in connection.execute(select(admins))]
            digests = list(connection.execute(select(sessions.c.digest)).scalars())
    finally:
        rows.close()
    assert all(text.startswith("pbkdf2-sha512$210000$") for text in kept)
    assert len(set(kept)) == len(kept), "one salt for each"
    thief = Person(site.caller)
    for digest in digests:
        thief.cookie = digest
        assert thief.get("/").to.startswith("/login")
