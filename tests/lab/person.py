# SPDX-License-Identifier: Apache-2.0
"""Somebody at the pages of a fleet's service, without a browser: a cookie, forms as they stand in the page, links."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from urllib.parse import urlencode

from lxml import html

from fleet.pages.access import COOKIE
from lab.fleet_service import Caller, Service

PASSWORD = "correct horse battery staple"
OWN_PASSWORD = "Tr0ub4dor & three (more)"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back."""

    status: int
    headers: HTTPMessage
    text: str

    @property
    def to(self) -> str:
        """Where it leads."""
        return self.headers.get("location", "")

    def says(self, text: str) -> bool:
        """Whether people see a text."""
        return text in " ".join(html.fromstring(self.text).text_content().split())

    def code(self) -> str:
        """Of the error that it shows."""
        found = html.fromstring(self.text).xpath("//p[@class='small']/code/text()")
        return str(found[0]).split()[-1] if found else ""


class Person:
    """One.

    Args:
        caller: a way to the service.
        name: of the account.
    """

    def __init__(self, caller: Caller, name: str = "") -> None:
        self._caller = caller
        self.name = name
        self.cookie = ""
        self._form = ("", "")

    def get(self, path: str, **headers: str) -> Seen:
        """Look at a page."""
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, fields: dict[str, str] | list[tuple[str, str]], **headers: str) -> Seen:
        """Send fields."""
        given = {"content-type": "application/x-www-form-urlencoded", **headers}
        return self._ask("POST", path, urlencode(fields).encode(), given)

    def form(self) -> str:
        """What forms of the session hold."""
        if self._form[0] != self.cookie:
            found = html.fromstring(self.get("/account").text).xpath("//input[@name='form']/@value")
            self._form = self.cookie, str(found[0])
        return self._form[1]

    def send(self, path: str, **fields: str) -> Seen:
        """Send a form with what forms of the session hold."""
        return self.post(path, {"form": self.form(), **fields})

    def log_in(self, password: str = PASSWORD) -> Seen:
        """Log in."""
        return self.post("/login", {"name": self.name, "password": password, "next": ""})

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Seen:
        connection = self._caller.connect()
        own = {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        try:
            connection.request(method, path, body=body or None, headers=own | given)
            response = connection.getresponse()
            seen = Seen(response.status, response.headers, response.read().decode())
        finally:
            connection.close()
        for cookie in response.headers.get_all("set-cookie", []):
            name, _, text = cookie.partition(";")[0].partition("=")
            assert name == COOKIE
            self.cookie = text.strip('"')
        return seen


def person(service: Service, caller: Caller, name: str, role: str) -> Person:
    """Somebody with an account and a password of their own, logged in."""
    path = service.folder / f"{name}.password"
    path.write_text(PASSWORD + "\n")
    service.run("admin", "create", name, "--role", role, "--password-file", path)
    found = Person(caller, name)
    assert found.log_in().to == "/"
    assert found.send("/account", old=PASSWORD, new=OWN_PASSWORD, again=OWN_PASSWORD).to == "/login"
    assert found.log_in(OWN_PASSWORD).to == "/"
    return found


def password_file(folder: Path, text: str = PASSWORD) -> Path:
    """A file with a password."""
    path = folder / "password"
    path.write_text(text + "\n")
    return path
