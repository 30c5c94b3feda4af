# SPDX-License-Identifier: Apache-2.0
"""One question to one server, and its answer: bounded in bytes and seconds, no redirects, nothing asked twice.

For services that a host talks to, beside the repositories that it fetches from (``updater.client.http``). It may have
had its effect when the answer was lost, so it is for the caller to say whether to ask again.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from updater.client.connection import Route, open_session
from updater.errors import ServerNotTrusted, TimedOut, Unreachable

CONNECT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 60.0
"""A server may judge for a while before it answers."""

HEADER_SECONDS: Final = 90.0
TOTAL_SECONDS: Final = 180.0
CHUNK: Final = 64 * 1024


class Exchange:
    """A server that is asked.

    Args:
        base_url: ``https``, without path, query and fragment.
        route: how to get there, and whom to believe.

    Raises:
        ValueError: not such an address.
        CertificatesUnusable: the route's certificates cannot be read.
    """

    def __init__(self, base_url: str, route: Route) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"{base_url!r} is not an https address without a path")
        route.require_usable()
        self._base = base_url.rstrip("/")
        self._route = route

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, limit: int
    ) -> tuple[int, bytes]:
        """Ask, and return the answer's status and body.

        Args:
            method: ``GET`` or ``POST``.
            target: path, and query where there is one.
            body: of the question.
            headers: besides the usual ones.
            limit: most bytes of the answer.

        Raises:
            Unreachable: no answer, or a longer one.
            TimedOut: it took too long.
            ServerNotTrusted: somebody else answered.
        """
        until = time.monotonic() + TOTAL_SECONDS
        try:
            with open_session(self._route, HEADER_SECONDS) as session:
                response = session.request(
                    method,
                    self._base + target,
                    data=body or None,
                    headers={"Content-Type": "application/json", **(headers or {})},
                    stream=True,
                    allow_redirects=False,
                    timeout=(CONNECT_SECONDS, SILENT_SECONDS),
                    proxies=self._route.proxies(self._base),
                )
                return response.status_code, self._read(response, limit, until)
        except requests.Timeout as error:
            raise self._late() from error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._failed(error) from error

    def _read(self, response: requests.Response, limit: int, until: float) -> bytes:
        untrusted = bytearray()
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            untrusted += chunk
            if len(untrusted) > limit:
                raise self._unreachable(f"the answer has more than {limit} bytes")
            if time.monotonic() > until:
                raise self._late()
        return bytes(untrusted)

    def _failed(self, error: Exception) -> Unreachable | ServerNotTrusted:
        reason: BaseException = error
        while (inside := next((part for part in reason.args if isinstance(part, BaseException)), None)) or (
            inside := reason.__cause__ or reason.__context__
        ):
            reason = inside
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ServerNotTrusted(
                "the server was not asked",
                cause=f"{self._base}: its certificate was not accepted: {reason.verify_message}",
                remedy="check the address, this host's clock, and the certificates that are believed",
            )
        return self._unreachable(str(reason)[:200] or type(reason).__name__)

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            "the server gave no answer", cause=f"{self._base}: {why}", remedy="check network and address"
        )

    def _late(self) -> TimedOut:
        return TimedOut("the server gave no answer", cause=f"{self._base}: it took too long", remedy="try again")
