# SPDX-License-Identifier: Apache-2.0
"""All pages in one table, and how they come into the service's application. Decides nothing."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from fleet.pages import accounts, assignments, hosts, records, rollouts
from fleet.pages.access import Gate, Status
from fleet.pages.asking import Page, Site
from fleet.pages.drawing import HEADERS, Drawing, static_files

PAGES: Final[tuple[Page, ...]] = (*accounts.PAGES, *assignments.PAGES, *hosts.PAGES, *records.PAGES, *rollouts.PAGES)

LIMITS: Final = {"settings": 24_000, "many": 16_000}
"""Bytes of bodies that may be larger than others, by the last part of the path."""


def add_pages(app: FastAPI, site: Site, status: Status) -> Gate:
    """Serve the pages; returns the gate, for errors that come before it.

    Args:
        app: gets the paths.
        site: what they work on.
        status: the status of HTTP that says what an error says.
    """
    gate, files = Gate(site, Drawing(), status), static_files()
    for page in PAGES:
        app.router.add_route(
            page.path, gate.endpoint(page), methods=[page.method], name=page.verb or None, include_in_schema=False
        )

    async def static(request: Request) -> Response:
        found = files.get(str(request.path_params["name"]))
        if found is None:
            return Response(status_code=404, headers=dict(HEADERS))
        headers = {**HEADERS, "cache-control": "public, max-age=3600"}
        return Response(found[0], headers=headers, media_type=found[1])

    app.router.add_route("/static/{name}", static, methods=["GET"], name="static", include_in_schema=False)
    return gate
