# SPDX-License-Identifier: Apache-2.0
"""The pages in a real browser: by keyboard, without JavaScript, in light and dark, large and small, and seen by axe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from documents.management import ADMINISTRATOR
from lab.browser import Looker, browser
from lab.fleet_service import Service, serving
from lab.paper_host import PaperHost
from lab.person import OWN_PASSWORD, person

PATHS = (
    "/",
    "/hosts",
    "/assignments",
    "/rollouts",
    "/tokens",
    "/releases",
    "/audit",
    "/administrators",
    "/settings",
    "/account",
    "/hosts/none",
)
NAME = "ada"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Browser]]:
    folder = tmp_path_factory.mktemp("browser")
    with serving(folder / "service") as (service, caller), browser() as opened:
        for number in range(1, 5):
            host = PaperHost(number)
            caller.enrol(host, service.token())
            if number < 3:
                caller.attest(host)
        (folder / "banner").write_text("Authorised people only.\nAll that is done is recorded.\n")
        service.run("admin", "rules", "--banner-file", folder / "banner")
        service.run("assign", "set", "all", "--allow", "platform=1-3")
        service.run("rollout", "start", "spring", "--channel", "platform", "--release", "2")
        person(service, caller, NAME, ADMINISTRATOR)
        yield service, opened


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"color_scheme": "light", "viewport": {"width": 1_280, "height": 900}}, id="light"),
        pytest.param(
            {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}},
            id="dark and small",
            marks=pytest.mark.long,
        ),
    ],
)
def test_every_page_can_be_read_by_all(site: tuple[Service, Browser], window: dict[str, object]) -> None:
    service, opened = site
    looker = Looker(opened, service.url, **window)
    looker.page.goto("/login")
    assert looker.page.get_by_text("Authorised people only.").is_visible()
    found = {"/login": looker.violations()}
    looker.log_in(NAME, OWN_PASSWORD)
    for path in PATHS:
        looker.page.goto(path)
        for summary in looker.page.locator("summary").all():
            summary.click()
        found[path] = looker.violations()
        wide = looker.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} must be pushed sideways"
    looker.page.goto("/hosts")
    looker.page.get_by_role("link", name="paper-1").click()
    looker.page.wait_for_url("**/hosts/*")
    found["a host"] = looker.violations()
    looker.page.locator("tbody th a").first.click()
    looker.page.wait_for_url("**/verdicts/*")
    found["a verdict"] = looker.violations()
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
    looker.page.evaluate("document.querySelector('h1').innerHTML = '<img src=/static/icon.svg>'")
    assert looker.violations(), "who looks does see"
    # A page that is not there says so by its status, and Chromium repeats that.
    assert [said for said in looker.errors() if "404" not in said] == []
    looker.close()


def test_the_keyboard_does_all_of_it(site: tuple[Service, Browser]) -> None:
    service, opened = site
    looker = Looker(opened, service.url)
    looker.log_in(NAME, OWN_PASSWORD)
    page = looker.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto("/hosts")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Choose paper-3":
            break
    page.keyboard.press("Space")
    assert page.get_by_label("Choose paper-3").is_checked()
    page.get_by_label("What").focus()
    page.keyboard.type("revoke")
    page.keyboard.press("Tab")
    page.keyboard.type("lost on a train")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/many")
    assert service.run("show", "paper-3")["state"] == "revoked"
    looker.close()


def test_without_javascript_it_is_the_same(site: tuple[Service, Browser]) -> None:
    service, opened = site
    looker = Looker(opened, service.url, java_script_enabled=False)
    looker.log_in(NAME, OWN_PASSWORD)
    page = looker.page
    page.goto("/hosts")
    page.get_by_label("Stands").select_option("unknown")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**standing=unknown**")
    assert page.locator("tbody th").all_inner_texts() == ["paper-4"]
    page.goto("/tokens")
    page.get_by_label("Name of its host").fill("desk-9")
    page.get_by_label("Your password").fill(OWN_PASSWORD)
    page.get_by_role("button", name="Make it").click()
    token = page.locator("code.token").inner_text()
    assert len(token) == 64
    page.goto("/tokens")
    assert token not in page.content(), "it is shown once"
    page.get_by_role("button", name="Withdraw").first.click()
    assert page.get_by_text("withdrawn").is_visible()
    page.get_by_role("button", name="Log out").click()
    page.goto("/hosts")
    assert "/login" in page.url
    looker.close()


def test_with_javascript_it_looks_again_by_itself_and_says_so_when_it_is_over(site: tuple[Service, Browser]) -> None:
    service, opened = site
    looker = Looker(opened, service.url)
    looker.log_in(NAME, OWN_PASSWORD)
    page = looker.page
    page.goto("/hosts")
    page.get_by_label("Name holds").type("paper-2")
    page.wait_for_url("**text=paper-2**")
    assert page.locator("tbody th").all_inner_texts() == ["paper-2"]
    page.goto("/")
    with page.expect_response("**/?poll") as answered:
        page.evaluate("htmx.ajax('GET', '/?poll', '#live')")
    assert answered.value.status == 200
    service.run("admin", "password", NAME, "--password-file", service.folder / f"{NAME}.password")
    page.evaluate("htmx.ajax('GET', '/?poll', '#live')")
    page.wait_for_url("**/login**")
    assert looker.errors() == []
    looker.close()
