# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium (Debian's) that looks at pages, and axe, which says what some people could not use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES = {"runOnly": {"type": "tag", "values": TAGS}}


@contextmanager
def browser() -> Iterator[Browser]:
    """One that trusts whatever certificate it is shown: the tests' services make their own."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], chromium_sandbox=False
        )
        try:
            yield found
        finally:
            found.close()


class Looker:
    """One window.

    Args:
        browser: see above.
        url: of the service.
        more: how the window is: ``color_scheme``, ``java_script_enabled``, ``viewport``.
    """

    def __init__(self, browser: Browser, url: str, **more: Any) -> None:
        self._context = browser.new_context(ignore_https_errors=True, base_url=url, **more)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def log_in(self, name: str, password: str) -> None:
        """With the keyboard alone."""
        self.page.goto("/login")
        self.page.locator("#name:focus").wait_for()
        self.page.keyboard.type(name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "login" not in url)

    def errors(self) -> list[str]:
        """What went wrong in the page, such as what the content security policy stopped."""
        return [said for said in self.complaints if not said.startswith(("debug", "verbose", "info", "log"))]

    def violations(self) -> list[str]:
        """What axe finds, at WCAG 2.2 AA."""
        found = Axe().run(self.page, options=RULES).response["violations"]
        return [f"{one['id']}: {one['help']}: {node['html'][:160]}" for one in found for node in one["nodes"]]

    def close(self) -> None:
        """Close it."""
        self._context.close()
