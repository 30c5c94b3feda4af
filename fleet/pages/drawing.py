# SPDX-License-Identifier: Apache-2.0
"""Draw pages: templates with everything escaped, and the headers that keep a browser from doing more than it should.

Styles and the one script are files of this package, served from here; no page holds any of its own, so that the content
security policy needs no exception. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from documents.management import ALL, FLEET_FUNCTIONS, function_of
from fleet.logins import Person

HERE: Final = Path(__file__).parent
MEDIA: Final = MappingProxyType(
    {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
)

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        # With less, browsers say of our own forms that they come from nowhere.
        "referrer-policy": "same-origin",
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
)
"""Of every page. CSP Level 3; Fetch (cross-origin-resource-policy); RFC 6797."""

NAVIGATION: Final = (
    ("overview", "/", "Overview"), ("hosts", "/hosts", "Hosts"), ("assignments", "/assignments", "Assignments"),
    ("rollouts", "/rollouts", "Rollouts"), ("tokens", "/tokens", "Tokens"),
    ("releases", "/releases", "Releases"), ("audit", "/audit", "Audit"),
    ("administrators", "/administrators", "Administrators"), ("settings", "/settings", "Settings"),
)  # fmt: skip


def may(person: Person | None, verb: str) -> bool:
    """Whether a person's role has the function of a verb: for what a page offers, and for who is let through."""
    function = function_of(FLEET_FUNCTIONS, verb)
    return bool(person and function and function.roles.get(person.role) == ALL)


def is_fresh(verb: str) -> bool:
    """Whether the password is asked for again."""
    function = function_of(FLEET_FUNCTIONS, verb)
    return bool(function and function.fresh)


def when(seconds: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "never"


class Drawing:
    """Templates of this package."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["when"] = when
        self._environment.globals["navigation"] = NAVIGATION

    def page(self, template: str, person: Person | None, values: Mapping[str, Any]) -> str:
        """A page as HTML."""
        return self._environment.get_template(template).render(
            {**values, "person": person, "may": lambda verb: may(person, verb)}
        )


def static_files() -> Mapping[str, tuple[bytes, str]]:
    """Styles and script by name: contents and media type."""
    files = sorted((HERE / "static").iterdir())
    return {path.name: (path.read_bytes(), MEDIA[path.suffix]) for path in files if path.suffix in MEDIA}
