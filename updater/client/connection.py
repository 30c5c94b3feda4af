# SPDX-License-Identifier: Apache-2.0
"""How connections to a web server are made: through which proxy, with whose certificates, and how long they may take.

Only the given ``Route`` and the environment's proxies (``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``) have a say.
``requests`` would also take passwords from ``.netrc`` and certificates from ``REQUESTS_CA_BUNDLE`` and
``CURL_CA_BUNDLE``. Whom a service of root believes is a setting, and settings are measured; its environment is not.
No cookies are kept, so that one answer says nothing about the next. This module asks for nothing.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from updater.errors import CertificatesUnusable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

AGENT = "vmgate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way to a server.

    Attributes:
        proxy: an ``http`` address; empty for what the environment says.
        ca_file: certificates in PEM, which alone are believed; empty for the public ones.
    """

    proxy: str = ""
    ca_file: str = ""

    def require_usable(self) -> None:
        """Read the certificates once, so that a wrong setting is told as such and not as a server's fault.

        Raises:
            CertificatesUnusable: the file cannot be read or holds none.
        """
        if not self.ca_file:
            return
        try:
            ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise CertificatesUnusable(
                "nothing was looked up",
                cause=f"{self.ca_file} holds no certificates that can be used: {error.strerror or error}",
                remedy="put certificates in PEM there, or correct ca_file in vmgate.toml",
            ) from error

    def proxies(self, url: str) -> dict[str, str]:
        """Which proxy to use for an address, by scheme."""
        if self.proxy:
            return {"http": self.proxy, "https": self.proxy}
        return dict(get_environ_proxies(url))


def open_session(route: Route, headers: float) -> requests.Session:
    """A session for one thread.

    Args:
        route: the way to the server; it was found usable.
        headers: seconds that the headers of an answer may take in all.
    """
    session = _Session()
    session.trust_env = False
    session.verify = route.ca_file or True
    session.headers.update({"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(headers))
    return session


class _Session(requests.Session):
    """Leaves redirects to its user: to prepare for one, ``requests`` would read all of an answer's body into memory."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, whatever the answer says."""


class Overdue(TimeoutError):
    """Bytes came, and came in time, but the answer did not get on."""


class _Adapter(HTTPAdapter):
    """Lets connections, to a server or a proxy, take no longer than allowed."""

    def __init__(self, headers: float) -> None:
        self._headers = headers
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """See ``HTTPAdapter``."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if "response_class" not in vars(pool.ConnectionCls):
            limited = staticmethod(partial(_Answer, self._headers))
            pool.ConnectionCls = type("Limited", (pool.ConnectionCls,), {"response_class": limited})
        return pool


class _Answer(HTTPResponse):
    """An answer that comes in time.

    A socket's time-out bounds only the wait for the next few bytes, and headers, sizes of chunks and trailers are many.
    """

    def __init__(self, seconds: float, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._limited = _Limited(self.fp.detach(), sock)
        self._limited.limit(seconds)
        self.fp = io.BufferedReader(self._limited)

    def read1(self, n: int = -1) -> bytes:
        """Read what has arrived. To wait for it, and for all that stands around it, is to bear silence once."""
        self._limited.limit(self._limited.silence)
        return super().read1(n)


class _Limited(io.RawIOBase):
    """Reads from a socket until a deadline, and only as long as it is not silent.

    Attributes:
        silence: seconds that a single read may take.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._socket = sock
        self.silence: float = sock.gettimeout() or 0.0
        self._deadline = 0.0

    def limit(self, seconds: float) -> None:
        """Set the deadline, by the real clock, since the real socket waits by it."""
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """See ``io.RawIOBase``."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Overdue
        self._socket.settimeout(min(left, self.silence))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError as error:
            if left < self.silence:
                raise Overdue from error
            raise

    def close(self) -> None:
        """See ``io.RawIOBase``."""
        self._raw.close()
        super().close()
