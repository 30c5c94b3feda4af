# SPDX-License-Identifier: Apache-2.0
"""A web server as a source: the one module that speaks HTTP.

Every wait is bounded: connecting, silence, the time per answer, and the rate over a window, since a server that drips
bytes never falls silent. Redirects stay on the same origin. Bodies are taken as they are, never decompressed.
The headers of an answer may take ``Patience.silence`` for each piece that arrives: their number is bounded by
``http.client``, their time is not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from updater.client.source import Reply
from updater.errors import NotOffered, TimedOut, Unreachable, UpdaterError

CHUNK = 256 * 1024
REDIRECTS = 3
AGENT = "vmgate"

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
_ABSENT = frozenset({403, 404, 410})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_UNSATISFIABLE = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection.
        silence: for the next bytes.
        window: the time over which the rate is judged.
        rate: fewest bytes a second over a window.
        total: for one whole answer.
    """

    connect: float = 10.0
    silence: float = 30.0
    window: float = 30.0
    rate: int = 1_000
    total: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The bytes that are wanted of a file."""

    start: int
    length: int | None

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
    """See ``updater.client.source.Source``.

    Args:
        base_url: of the repository: ``http`` or ``https``, without query.
        patience: how long to wait.
        clock: seconds, never going back.

    Raises:
        ValueError: not such an address.
    """

    def __init__(
        self, base_url: str, patience: Patience | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{base_url!r} is not the address of a repository")
        self._base = base_url.rstrip("/") + "/"
        self._patience = patience or Patience()
        self._clock = clock
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
        # Files with passwords in a home folder are not for a repository; proxies from the environment are.
        self._session.auth = _no_authentication

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
        with closing(response):
            if wanted.header and not wanted.answered_by(response):
                if length is not None:
                    raise _unreachable(name, "it was answered with another range than the one asked for")
                # The file may have another length, or what stands between answers ranges wrongly: take all of it.
                response.close()
                response, wanted = self._get(name, _WHOLE), _WHOLE
            with closing(response):
                # Many servers answer 200 to a range: then the bytes begin at the beginning.
                begins = start if response.status_code == requests.codes.partial_content else 0
                chunks = self._chunks(response, name, began)
                yield Reply(start=begins, untrusted_chunks=wanted.cut(chunks, begins))

    def _get(self, name: str, wanted: _Range) -> requests.Response:
        url = self._base + name
        headers = {"Range": wanted.header} if wanted.header else {}
        for _ in range(REDIRECTS + 1):
            with _mapped(name):
                response = self._session.get(
                    url,
                    headers=headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(self._patience.connect, self._patience.silence),
                )
            if response.status_code not in _REDIRECT:
                _require_answer(response, name, ranged=bool(wanted.header))
                return response
            response.close()
            url = self._redirected(url, response.headers.get("Location", ""), name)
        raise _unreachable(name, "it was redirected too often")

    def _redirected(self, url: str, location: str, name: str) -> str:
        target = urljoin(url, location)
        ours, theirs = urlsplit(self._base), urlsplit(target)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise _unreachable(name, f"it was redirected to another server, {theirs.netloc[:100]!r}")
        return target

    def _chunks(self, response: requests.Response, name: str, began: float) -> Iterator[bytes]:
        patience = self._patience
        window_start, window_bytes = self._clock(), 0
        while True:
            with _mapped(name):
                # read1 returns what has arrived; read would wait for a full piece while bytes drip in.
                untrusted_chunk = response.raw.read1(CHUNK, decode_content=False)
            if not untrusted_chunk:
                return
            window_bytes += len(untrusted_chunk)
            now = self._clock()
            if now - began > patience.total:
                raise _timed_out(name, f"it took more than {patience.total:.0f} seconds")
            if now - window_start >= patience.window:
                if window_bytes < patience.rate * (now - window_start):
                    raise _timed_out(name, f"fewer than {patience.rate} bytes a second came")
                window_start, window_bytes = now, 0
            yield untrusted_chunk


def _no_authentication(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _require_answer(response: requests.Response, name: str, *, ranged: bool) -> None:
    status = response.status_code
    good = status == requests.codes.ok or (ranged and status in (requests.codes.partial_content, _UNSATISFIABLE))
    if good and "Content-Encoding" not in response.headers:
        return
    response.close()
    if status in _ABSENT:
        raise NotOffered(
            "a file was not fetched",
            cause=f"the repository does not have {name} (HTTP {status})",
            remedy="check the address, or ask the publisher",
        )
    if good:
        raise _unreachable(name, "it came in an encoding that nobody asked for")
    raise _unreachable(name, f"the answer was HTTP {status}")


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Turn what the libraries raise into errors of this package."""
    try:
        yield
    except (requests.Timeout, ReadTimeoutError) as error:
        raise _timed_out(name, "the server stayed silent") from error
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _unreachable(name, _reason(error)) from error


def _reason(error: BaseException) -> str:
    """The innermost reason: the outer ones repeat addresses and class names."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{error}"[:200] or type(error).__name__


def _unreachable(name: str, why: str) -> UpdaterError:
    return Unreachable(
        "a file was not fetched", cause=f"{name}: {why}", remedy="check network and address, or use a bundle"
    )


def _timed_out(name: str, why: str) -> UpdaterError:
    return TimedOut("a file was not fetched", cause=f"{name}: {why}", remedy="try again, or use a bundle")
