# SPDX-License-Identifier: Apache-2.0
"""A web server as a source: with ``updater.client.connection`` the one place that speaks HTTP.

Every wait is bounded: connecting, silence, the headers, the time per answer, and the rate over a window, since a server
that drips bytes never falls silent. Only time spent on waiting for the server counts against it. Redirects stay on the
same origin. Bodies are taken as they are, never decompressed.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import RemoteDisconnected
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from updater.client.bandwidth import Bandwidth
from updater.client.connection import Overdue, Route, open_session
from updater.client.source import Reply
from updater.errors import NotOffered, ServerNotTrusted, TimedOut, Unreachable, UpdaterError

CHUNK = 256 * 1024
SMALL = 4096
"""Bytes of an answer that nobody wants which are read all the same, so that the connection can be used again."""
REDIRECTS = 3
KEPT = 30.0
"""Seconds after which a connection is made anew: what stands between may have forgotten the old one without a word."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
_ABSENT = frozenset({403, 404, 410})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_UNSATISFIABLE = 416
_DROPPED = (RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection.
        silence: for the next bytes.
        headers: for all headers of an answer.
        window: the time over which the rate is judged.
        rate: fewest bytes a second over a window.
        total: for one whole answer. Like the rate it is judged by the time in which we waited for the server: neither
            a bandwidth limit nor a slow disk of our own counts.
    """

    connect: float = 10.0
    silence: float = 30.0
    headers: float = 60.0
    window: float = 30.0
    rate: int = 1_000
    total: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The bytes that are wanted of a file."""

    start: int
    length: int | None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.length is not None and self.length < 1):
            raise ValueError("a range begins in a file and has at least one byte")

    @property
    def header(self) -> str:
        """What asks for them; nothing where the whole file is wanted."""
        if self.length is not None:
            return f"bytes={self.start}-{self.start + self.length - 1}"
        return f"bytes={self.start}-" if self.start else ""

    def answered_by(self, response: requests.Response) -> bool:
        """Whether an answer may be used: the whole file, or from exactly there on and not beyond."""
        if response.status_code == requests.codes.ok:
            return True
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code != requests.codes.partial_content or match is None:
            return False
        first, last = int(match[1]), int(match[2])
        return first == self.start and (self.length is None or first <= last < first + self.length)

    def cut(self, chunks: Iterator[bytes], begins: int) -> Iterator[bytes]:
        """The chunks without what goes beyond the range."""
        if self.length is None:
            yield from chunks
            return
        left = self.start + self.length - begins
        for untrusted_chunk in chunks:
            yield untrusted_chunk[:left]
            left -= len(untrusted_chunk)
            if left <= 0:
                return


_WHOLE = _Range(start=0, length=None)


class HttpSource:
    """See ``updater.client.source.Source``. Each thread has connections of its own, which are kept open between files.

    Args:
        base_url: of the repository: ``http`` or ``https``, without query.
        patience: how long to wait.
        clock: seconds, never going back.
        route: how to get there.
        bandwidth: the limit that all transfers share.

    Raises:
        ValueError: not such an address.
        CertificatesUnusable: the route's certificates cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        route: Route | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{base_url!r} is not the address of a repository")
        self._base = base_url.rstrip("/") + "/"
        self._patience = patience or Patience()
        self._clock = clock
        self._route = route or Route()
        self._route.require_usable()
        self._bandwidth = bandwidth
        self._of_thread = threading.local()

    @property
    def offline(self) -> bool:
        """False."""
        return False

    @contextmanager
    def open(self, name: str, start: int = 0, length: int | None = None) -> Iterator[Reply]:
        """See ``Source.open``."""
        wanted = _Range(start=start, length=length)
        began = self._clock()
        response = self._get(name, wanted)
        if wanted.header and not wanted.answered_by(response):
            _let_go(response)
            if length is not None:
                raise _unreachable(name, "it was answered with another range than the one asked for")
            # The file may have another length, or what stands between answers ranges wrongly: take all of it.
            wanted = _WHOLE
            response = self._get(name, wanted)
        with closing(response):
            # Many servers answer 200 to a range: then the bytes begin at the beginning.
            begins = start if response.status_code == requests.codes.partial_content else 0
            watch = _Watch(self._patience, name, self._clock() - began)
            yield Reply(start=begins, untrusted_chunks=wanted.cut(self._chunks(response, watch), begins))
            _let_go(response)

    @property
    def _session(self) -> requests.Session:
        mine, now = self._of_thread, self._clock()
        if not hasattr(mine, "session"):
            mine.session = open_session(self._route, self._patience.headers)
        elif now - mine.asked > KEPT:
            mine.session.close()
        mine.asked = now
        session: requests.Session = mine.session
        return session

    def _get(self, name: str, wanted: _Range) -> requests.Response:
        url = self._base + name
        headers = {"Range": wanted.header} if wanted.header else {}
        for _ in range(REDIRECTS + 1):
            with _mapped(name):
                response = self._ask(url, headers)
            if response.status_code not in _REDIRECT:
                _require_answer(response, name, ranged=bool(wanted.header))
                return response
            _let_go(response)
            url = self._redirected(url, response.headers.get("Location", ""), name)
        raise _unreachable(name, "it was redirected too often")

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Ask, and again where a kept connection was closed meanwhile, as a server may (RFC 9112, section 9.3.1)."""
        kept = hasattr(self._of_thread, "asked")
        try:
            return self._send(url, headers)
        except requests.ConnectionError as error:
            if not kept or not any(isinstance(reason, _DROPPED) for reason in _reasons(error)):
                raise
            self._session.close()
            return self._send(url, headers)

    def _send(self, url: str, headers: dict[str, str]) -> requests.Response:
        return self._session.get(
            url,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(self._patience.connect, self._patience.silence),
            proxies=self._route.proxies(url),
        )

    def _redirected(self, url: str, location: str, name: str) -> str:
        target = urljoin(url, location)
        ours, theirs = urlsplit(self._base), urlsplit(target)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise _unreachable(name, f"it was redirected to another server, {theirs.netloc[:100]!r}")
        return target

    def _chunks(self, response: requests.Response, watch: _Watch) -> Iterator[bytes]:
        piece = min(CHUNK, self._bandwidth.piece) if self._bandwidth else CHUNK
        while True:
            began = self._clock()
            with _mapped(watch.name):
                # read1 returns what has arrived; read would wait for a full piece while bytes drip in.
                untrusted_chunk = response.raw.read1(piece, decode_content=False)
            if not untrusted_chunk:
                return
            watch.came(len(untrusted_chunk), self._clock() - began)
            if self._bandwidth:
                self._bandwidth.take(len(untrusted_chunk))
            yield untrusted_chunk


class _Watch:
    """Judges whether one answer comes fast enough, by the time that was spent on waiting for it."""

    def __init__(self, patience: Patience, name: str, seconds: float) -> None:
        self.name = name
        self._patience = patience
        self._total = seconds
        self._window = 0.0
        self._bytes = 0

    def came(self, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""
        patience = self._patience
        self._total += seconds
        self._window += seconds
        self._bytes += count
        if self._total > patience.total:
            raise _timed_out(self.name, f"it took more than {patience.total:.0f} seconds")
        if self._window >= patience.window:
            if self._bytes < patience.rate * self._window:
                raise _timed_out(self.name, f"fewer than {patience.rate} bytes a second came")
            self._window, self._bytes = 0.0, 0


def _let_go(response: requests.Response) -> None:
    """Leave an answer: keep the connection if next to nothing is left to read, and close it otherwise."""
    raw = response.raw
    with suppress(requests.RequestException, HTTPError, OSError, ValueError):
        if raw.length_remaining is not None and raw.length_remaining <= SMALL:
            raw.read1(SMALL, decode_content=False)  # once, so that it cannot drip
            if raw.length_remaining == 0:
                raw.drain_conn()
    response.close()


def _require_answer(response: requests.Response, name: str, *, ranged: bool) -> None:
    status = response.status_code
    good = status == requests.codes.ok or (ranged and status in (requests.codes.partial_content, _UNSATISFIABLE))
    # A server that refuses a range may say so in a web page.
    page = status != _UNSATISFIABLE and response.headers.get("Content-Type", "").lower().startswith("text/html")
    if good and not page and "Content-Encoding" not in response.headers:
        return
    _let_go(response)
    if status in _ABSENT:
        raise NotOffered(
            "a file was not fetched",
            cause=f"the repository does not have {name} (HTTP {status})",
            remedy="check the address, or ask the publisher",
        )
    if good and page:
        raise _unreachable(name, "a web page came instead; perhaps this network wants a sign-in first")
    if good:
        raise _unreachable(name, "it came in an encoding that nobody asked for")
    raise _unreachable(name, f"the answer was HTTP {status}")


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Turn what the libraries raise into errors of this package."""
    try:
        yield
    except (requests.Timeout, ReadTimeoutError) as error:
        overdue = any(isinstance(reason, Overdue) for reason in _reasons(error))
        raise _timed_out(name, "the answer did not get on" if overdue else "the server stayed silent") from error
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        *_, innermost = _reasons(error)
        if isinstance(innermost, ssl.SSLCertVerificationError):
            raise ServerNotTrusted(
                "a file was not fetched",
                cause=f"{name}: the server's certificate was not accepted: {innermost.verify_message}",
                remedy="check the address, this host's clock, and ca_file in vmgate.toml",
            ) from error
        raise _unreachable(name, f"{innermost}"[:200] or type(innermost).__name__) from error


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and what is behind it. The outer ones repeat addresses and class names, and the innermost says why."""
    reason: BaseException | None = error
    while reason is not None:
        yield reason
        inside = next((part for part in reason.args if isinstance(part, BaseException)), None)
        reason = reason.__cause__ or reason.__context__ or inside


def _unreachable(name: str, why: str) -> UpdaterError:
    return Unreachable(
        "a file was not fetched", cause=f"{name}: {why}", remedy="check network and address, or use a bundle"
    )


def _timed_out(name: str, why: str) -> UpdaterError:
    return TimedOut("a file was not fetched", cause=f"{name}: {why}", remedy="try again, or use a bundle")
