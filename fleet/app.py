# SPDX-License-Identifier: Apache-2.0
"""The service's HTTP: which path does what, who is heard there, and how an answer or an error is written.

Heads of signed requests are verified before their bodies are read. Bodies and answers are the project's documents
(``docs/guide/formats.md``); the description of the interface lies at ``/openapi.json``. Pages for people lie beside
``/v1`` (``fleet.pages``), with log-ins of their own. This module decides nothing.
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from documents.document import Document
from documents.enrolment import EnrolmentProof, EnrolmentRequest
from documents.errors import DocumentError, Exit, VmgateError
from documents.fields import UUID
from documents.fleet_answers import AuditUpload, Refusal
from fleet import metrics
from fleet.bounds import Bounds
from fleet.database import Database
from fleet.errors import Crowded, DatabaseFailed, HostUnknown, PageRefused, ReferenceWrong, RequestTooLarge
from fleet.hosts import refused_host
from fleet.logins import Logins
from fleet.migrate import require_current
from fleet.pages.access import Gate
from fleet.pages.asking import Site
from fleet.pages.wiring import LIMITS as PAGE_LIMITS
from fleet.pages.wiring import add_pages
from fleet.service import FleetService
from fleet.settings import FleetFolder, FleetSettings
from fleet.trail import Trail

EVIDENCE_LIMIT: Final = 24_000_000
"""Bytes of evidence: a list of 100,000 files that ran, in base64. The document's own bound is for files."""

LIMITS: Final = {
    "enrolments": EnrolmentRequest.LIMIT,
    "proofs": EnrolmentProof.LIMIT,
    "attestations": EVIDENCE_LIMIT,
    "audit": AuditUpload.LIMIT,
}
STATUS: Final = {
    Exit.NOT_FOUND: 404, Exit.NOT_PERMITTED: 403, Exit.REFUSED: 403, Exit.POLICY: 409, Exit.NOT_READY: 503,
    Exit.TIMED_OUT: 504,
}  # fmt: skip
_JSON: Final = "application/json"
_HOST: Final = {"in": "path", "name": "host", "required": True, "schema": {"type": "string", "format": "uuid"}}
_SIGNED: Final = "Signed by the host's request key: RFC 9421, see docs/guide/fleet.md."


def build(root: Path) -> FastAPI:
    """The service of a folder. Each process builds its own."""
    folder = FleetFolder(root)
    settings = folder.load()
    database = Database(folder.database(settings))
    require_current(database)
    service = FleetService(folder, settings, database, _now, version("vmgate"))

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(database.close)

    app = FastAPI(title="vmgate fleet", version="1", docs_url=None, redoc_url=None, lifespan=living)
    app.add_middleware(Bounds, limits={**LIMITS, **PAGE_LIMITS})
    gate = add_pages(app, _site(folder, settings, database), _status)
    _add_errors(app, service, gate)
    _add_health(app, service)
    _add_metrics(app, service, folder.read_metrics_token())
    _add_enrolment(app, service)
    _add_hosts(app, service)
    return app


def _site(folder: FleetFolder, settings: FleetSettings, database: Database) -> Site:
    trail = Trail(str(uuid.uuid4()))
    return Site(
        settings=settings,
        database=database,
        trail=trail,
        logins=Logins(database, folder.read_secret(), trail, _now),
        clock=_now,
        version=version("vmgate"),
    )


def _now() -> int:
    return int(time.time())


def _add_health(app: FastAPI, service: FleetService) -> None:
    @app.get("/healthz", summary="Whether the process runs.", **_answers())
    async def healthz() -> Response:
        return Response(b'{"ok":true}', media_type=_JSON)

    @app.get("/readyz", summary="Whether it can do its work.", **_answers())
    async def readyz() -> Response:
        await run_in_threadpool(service.require_ready)
        return Response(b'{"ok":true}', media_type=_JSON)


def _add_metrics(app: FastAPI, service: FleetService, token: str) -> None:
    """Only where there is a token: numbers of a fleet tell who attacks it how it goes."""
    if not token:
        return

    @app.get("/metrics", summary="Numbers in Prometheus' text format.", response_class=Response)
    async def numbers(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise PageRefused("no numbers were told", cause="the token is wrong", remedy="use that of keys/metrics")
        body = await run_in_threadpool(service.metrics)
        return Response(body, media_type=metrics.MEDIA, headers={"cache-control": "no-store"})


def _add_enrolment(app: FastAPI, service: FleetService) -> None:
    @app.post("/v1/enrolments", summary="A host asks to join.", **_takes("vmgate.enrolment-request"))
    async def enrolments(request: Request) -> Response:
        return _document(await run_in_threadpool(service.offer, await request.body()))

    @app.post("/v1/enrolments/proofs", summary="It proves who it is.", **_takes("vmgate.enrolment-proof"))
    async def proofs(request: Request) -> Response:
        return _document(await run_in_threadpool(service.enrol, await request.body()))


def _add_hosts(app: FastAPI, service: FleetService) -> None:
    @app.get("/v1/hosts/{host}/nonce", summary="Something to answer.", **_answers(_HOST))
    async def nonce(request: Request) -> Response:
        return _document(service.nonce(_host(request)))

    def signed(name: str, summary: str, work: Callable[[Any, bytes], Document], kind: str) -> None:
        @app.post(f"/v1/hosts/{{host}}/{name}", name=name, summary=summary, description=_SIGNED, **_takes(kind, _HOST))
        async def endpoint(request: Request) -> Response:
            asking = await run_in_threadpool(
                service.prove, request.method, _target(request), dict(request.headers), _host(request)
            )
            return _document(await run_in_threadpool(work, asking, await request.body()))

    signed("attestations", "Evidence is judged, and the verdict kept.", service.attest, "vmgate.evidence")
    signed("audit", "Records of the host's audit trail.", service.take_audit, "vmgate.audit-upload")
    signed("membership", "The host's place in the fleet. The body is empty.", service.membership, "")


def _add_errors(app: FastAPI, service: FleetService, gate: Gate) -> None:
    async def told(request: Request, error: Exception) -> Response:
        if not isinstance(error, VmgateError):
            raise error
        if not isinstance(error, ReferenceWrong) or request.url.path.startswith("/v1/"):
            actor = f"{request.client.host if request.client else 'somebody'} {request.url.path}"
            await run_in_threadpool(service.refused, error, actor)
        if isinstance(error, DatabaseFailed):
            # What the database says may tell strangers of it.
            error = DatabaseFailed("nothing was done", cause="the database did not do its part", remedy="try again")
        return _refusal(error, _status(error))

    async def malformed(_request: Request, _error: Exception) -> Response:
        return _refusal(
            DocumentError("nothing was done", cause="the request is malformed", remedy="see /openapi.json"), 400
        )

    async def plain(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        cause = {404: "there is no such path", 405: "the path has no such method"}.get(status, "it was not understood")
        said = HostUnknown("nothing was done", cause=cause, remedy="see /openapi.json")
        if status == 404 and "text/html" in request.headers.get("accept", ""):
            return gate.failed(HostUnknown("nothing was found", cause=cause, remedy="begin at /"), None)
        return _refusal(said, status, dict(getattr(error, "headers", None) or {}))

    app.add_exception_handler(VmgateError, told)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, plain)


def _status(error: VmgateError) -> int:
    """The status of HTTP that says most nearly the same."""
    match error:
        case RequestTooLarge():
            return 408 if "seconds" in error.cause else 413
        case DocumentError():
            return 400
        case Crowded():
            return 409
        case DatabaseFailed():
            return 503
    return STATUS.get(error.exit, 500)


def _refusal(error: VmgateError, status: int, headers: dict[str, str] | None = None) -> Response:
    said = Refusal(code=error.code, error=_printable(str(error))[:2_000], exit=int(error.exit))
    # What was not read of the request must not be taken for the next one.
    return Response(
        said.encode(), status_code=status, media_type=_JSON, headers={"connection": "close", **(headers or {})}
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text) or "?"


def _document(document: Document) -> Response:
    return Response(document.encode(), media_type=_JSON, headers={"cache-control": "no-store"})


def _host(request: Request) -> str:
    host = str(request.path_params["host"])
    if not UUID.fullmatch(host):
        raise refused_host("the path names no host")
    return host


def _target(request: Request) -> str:
    """Path and query as they stood in the request."""
    path = bytes(request.scope.get("raw_path") or request.scope["path"].encode()).decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _answers(*parameters: dict[str, Any]) -> dict[str, Any]:
    """What the description of the interface says of a path: documents are described in the guide, not there."""
    refusal = {"description": "A vmgate.refusal.", "content": {_JSON: {"schema": {"type": "object"}}}}
    statuses = (400, 403, 404, 408, 409, 413, 503)
    return {
        "responses": {200: {"content": {_JSON: {"schema": {"type": "object"}}}}, **dict.fromkeys(statuses, refusal)},
        "openapi_extra": {"parameters": list(parameters)} if parameters else None,
        "response_class": Response,
    }


def _takes(kind: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    said = _answers(*parameters)
    if kind:
        properties = {"type": {"const": kind}, "version": {"const": 1}}
        schema = {"type": "object", "properties": properties, "required": ["type", "version"]}
        body = {"required": True, "content": {_JSON: {"schema": schema}}}
        said["openapi_extra"] = {**(said["openapi_extra"] or {}), "requestBody": body}
    return said
