# SPDX-License-Identifier: Apache-2.0
"""Who is let through to a page: session, role, form of the service's own, and the password where trust changes.

In this order, for each page of the table:

1. The request came from a page of this service, as far as the browser says (Fetch metadata, or the header Origin).
2. Somebody is logged in, and the session counts; else the log-in is shown.
3. Their role has the function that the page's verb belongs to; a verb without one is for nobody.
4. Who was given a password by somebody else changes it first.
5. A form holds what this session's forms hold.
6. Where the function asks for it, the password is right.

Only then the page's view is called. What is refused is recorded.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from documents.errors import VmgateError
from fleet.errors import DatabaseFailed, LoginRefused, PageRefused
from fleet.logins import Person
from fleet.pages.asking import Asked, Led, Page, Reply, Sent, Shown, Site
from fleet.pages.drawing import HEADERS, Drawing, is_fresh, may
from fleet.trail import Sparing

log = logging.getLogger(__name__)

COOKIE: Final = "__Host-vmgate"
FIELDS: Final = 250
"""Most fields of a form: a page of hosts."""

OWN: Final = frozenset({"account", "account/password", "log-out"})
"""Verbs for somebody who must change the password."""

NEXT: Final = re.compile(r"/[A-Za-z0-9-][A-Za-z0-9/._-]{0,200}")
"""Where a log-in may lead: a path of the service."""

_FORM: Final = "application/x-www-form-urlencoded"

Status = Callable[[VmgateError], int]
Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Lets requests through to pages.

    Args:
        site: see there.
        drawing: for pages and errors.
        status: the status of HTTP that says what an error says.
    """

    def __init__(self, site: Site, drawing: Drawing, status: Status) -> None:
        self._site = site
        self._drawing = drawing
        self._status = status
        self._sparing = Sparing()

    def endpoint(self, page: Page) -> Endpoint:
        """What Starlette calls for a page."""

        async def answer(request: Request) -> Response:
            person: Person | None = None
            try:
                require_own(request)
                if page.verb:
                    person = await run_in_threadpool(self._who, request)
                    if person is None:
                        return _to_login(request)
                    if person.renew and page.verb not in OWN:
                        return _led(request, Led(to="/account"))
                    if not may(person, page.verb):
                        raise _refused(f"{page.verb} is not for the role {person.role}", "ask an administrator")
                form = read_form(await request.body(), request.headers.get("content-type", ""))
                asked = self._asked(request, person, form)
                reply = await run_in_threadpool(self._reply, page, asked)
                return self._response(request, asked, reply)
            except VmgateError as error:
                await run_in_threadpool(self._record, error, person, request)
                return self.failed(error, person)

        return answer

    def failed(self, error: VmgateError, person: Person | None) -> Response:
        """An error as a page."""
        said = (error.what, error.cause, error.remedy)
        if isinstance(error, DatabaseFailed):
            # What the database says may tell strangers of it.
            said = ("nothing was done", "the database did not do its part", "try again")
        values = {"what": said[0], "cause": said[1], "remedy": said[2], "code": error.code, "here": ""}
        body = self._drawing.page("error.html", person, values)
        headers = {**HEADERS, "connection": "close"}
        return Response(body, self._status(error), headers, "text/html; charset=utf-8")

    def _who(self, request: Request) -> Person | None:
        token = request.cookies.get(COOKIE, "")
        # A page that looks again by itself is nobody's doing.
        return self._site.logins.who(token, active="poll" not in request.query_params) if token else None

    def _asked(self, request: Request, person: Person | None, form: Mapping[str, tuple[str, ...]]) -> Asked:
        return Asked(
            site=self._site,
            person=person,
            origin=_origin(request),
            path={name: str(part) for name, part in request.path_params.items()},
            query=dict(request.query_params),
            form=form,
            now=self._site.clock(),
        )

    def _reply(self, page: Page, asked: Asked) -> Reply:
        if page.method == "POST" and asked.person is not None:
            if not hmac.compare_digest(asked.one("form").encode(), asked.person.form.encode()):
                raise _refused("the form is not of this session", "open the page again")
            if is_fresh(page.verb):
                self._site.logins.prove(asked.person, asked.one("password"), asked.origin)
        return page.view(asked)

    def _response(self, request: Request, asked: Asked, reply: Reply) -> Response:
        match reply:
            case Led():
                return _led(request, reply)
            case Sent():
                headers = {**HEADERS, "content-disposition": f'attachment; filename="{reply.name}"'}
                return Response(reply.body, 200, headers, reply.media)
            case Shown():
                body = self._drawing.page(reply.template, asked.person, reply.values)
                return Response(body, reply.status, dict(HEADERS), "text/html; charset=utf-8")

    def _record(self, error: VmgateError, person: Person | None, request: Request) -> None:
        """What was refused; a wrong password was recorded where it was looked at."""
        origin, now = _origin(request), self._site.clock()
        log.info("refused: %s %s: %s", origin, request.url.path, error.line())
        if isinstance(error, (DatabaseFailed, LoginRefused)):
            return
        left_out = self._sparing.take(error.code, now)
        if left_out is None:
            return
        actor = f"{person.name} at {origin}" if person else origin
        try:
            self._site.database.write(
                lambda connection: self._site.trail.write(
                    connection, now, "page-refused", "refused", subject=f"{request.method} {request.url.path}",
                    actor=actor, code=error.code, cause=error.cause, left_out=str(left_out),
                )
            )  # fmt: skip
        except DatabaseFailed as failure:
            log.warning("a refusal was not recorded: %s", failure)


def require_own(request: Request) -> None:
    """Require that what changes something was asked for by a page of this service, as far as the browser says.

    Raises:
        PageRefused: it was another's.
    """
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise _refused("another site asked for it", "open the page of the service itself")
    if origin is not None and origin != f"https://{request.headers.get('host', '')}":
        raise _refused("another site asked for it", "open the page of the service itself")


def read_form(untrusted_body: bytes, content_type: str) -> Mapping[str, tuple[str, ...]]:
    """The fields of a form.

    Raises:
        PageRefused: it is none, or has too many.
    """
    if not untrusted_body:
        return {}
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise _refused("what was sent is no form", "use the page's own")
    try:
        pairs = parse_qsl(
            untrusted_body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
            max_num_fields=FIELDS,
        )  # fmt: skip
    except ValueError as error:
        raise _refused("what was sent is no form", "use the page's own") from error
    found: dict[str, tuple[str, ...]] = {}
    for name, text in pairs:
        found[name] = (*found.get(name, ()), text)
    return found


def _origin(request: Request) -> str:
    return request.client.host if request.client else "somewhere"


def _to_login(request: Request) -> Response:
    path = request.url.path
    wanted = f"?next={quote(path)}" if request.method == "GET" and NEXT.fullmatch(path) else ""
    return _led(request, Led(to=f"/login{wanted}"))


def _led(request: Request, led: Led) -> Response:
    if "hx-request" in request.headers:
        # A redirection would be followed inside of the page.
        response = Response(status_code=204, headers={**HEADERS, "hx-redirect": led.to})
    else:
        response = RedirectResponse(led.to, 303, headers=dict(HEADERS))
    if led.session:
        response.set_cookie(COOKIE, led.session, path="/", secure=True, httponly=True, samesite="strict")
    elif led.session is not None:
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


def _refused(cause: str, remedy: str) -> PageRefused:
    return PageRefused("that was not done", cause=cause, remedy=remedy)
