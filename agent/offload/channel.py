# SPDX-License-Identifier: Apache-2.0
"""The TLS channel to a log server (FTP_ITC_EXT.1): the only module of the off-load that touches sockets.

What is checked, in this order; any no ends the channel before the first record:
 1. TLS 1.2 or 1.3; the server proves its key.
 2. Path, times, constraints, key usage: strictly as RFC 5280 says, up to ``ca_file`` alone.
 3. Revocation of every certificate of the path by ``crl_file``; a list that is missing or expired is a no.
 4. Purpose and name of the certificate (``agent.offload.peer``).
Lists and authorities are read anew for each channel. TLS tells no more than that the server's kernel took the bytes:
that they are on its disk nobody says here. This module does not try again and records nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import select
import socket
import ssl
import struct
import termios
from contextlib import suppress

from agent.audit_settings import AuditSettings, address
from agent.errors import ServerUnreachable
from agent.offload.peer import refused, verify_server

CONNECT_SECONDS = 15
"""For the connection, and again for the handshake."""

SEND_SECONDS = 30
"""After which a server that takes nothing counts as gone."""


class Channel:
    """An open channel.

    Attributes:
        peer: address of the server.
        fingerprint: SHA-256 of its certificate.
    """

    def __init__(self, line: ssl.SSLSocket, peer: str, fingerprint: str) -> None:
        self._line = line
        self.peer = peer
        self.fingerprint = fingerprint

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel.

        Raises:
            ServerUnreachable: the channel is broken; what was sent last may have arrived or not.
        """
        try:
            self._line.settimeout(SEND_SECONDS)
            self._line.sendall(data)
        except OSError as error:
            raise _broken(error) from error

    def check(self) -> None:
        """See whether the server ended the channel. What it says is dropped: syslog has no answers.

        Raises:
            ServerUnreachable: it did, or the channel is broken.
        """
        try:
            self._line.settimeout(SEND_SECONDS)
            while self._line.pending() or select.select([self._line], [], [], 0)[0]:
                self._line.settimeout(0)
                if not self._line.recv(4_096):
                    raise unreachable("the server ended the channel")
        except ssl.SSLWantReadError:  # a record of TLS itself, such as a session ticket
            return
        except OSError as error:
            raise _broken(error) from error

    def unacknowledged(self) -> int:
        """Bytes that the server's kernel did not acknowledge yet (SIOCOUTQ, tcp(7)).

        Raises:
            ServerUnreachable: the channel is broken.
        """
        try:
            answer = fcntl.ioctl(self._line.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        except (OSError, ValueError) as error:
            raise unreachable("the channel is closed") from error
        return int(struct.unpack("i", answer)[0])

    def close(self) -> None:
        """Say goodbye if the server still listens, and close."""
        with suppress(OSError, ValueError):
            self._line.settimeout(1)
            self._line.unwrap()
        self._line.close()


def connect(settings: AuditSettings) -> Channel:
    """Open a channel to the server of the settings.

    Raises:
        ServerUnreachable: nobody answers, or not in TLS.
        ServerRefused: it is not the administrator's server, or that cannot be known.
    """
    host, port = address(settings.server)
    context = _context(settings)
    try:
        line = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise unreachable(f"{host} port {port}: {error.strerror or error}") from error
    try:
        peer = str(line.getpeername()[0])
        secured = context.wrap_socket(line, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        line.close()
        raise refused(f"{error.verify_message} (X.509 error {error.verify_code})") from error
    except OSError as error:
        line.close()
        raise unreachable(f"the handshake failed: {_reason(error)}") from error
    certificate = secured.getpeercert(binary_form=True) or b""
    channel = Channel(secured, peer, hashlib.sha256(certificate).hexdigest())
    try:
        verify_server(certificate, host)
    except BaseException:
        channel.close()
        raise
    return channel


def _context(settings: AuditSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The name is checked by ``verify_server``, which can tell both names in the record, and takes no wildcard.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=settings.ca_file)
        if settings.crl_file:
            context.load_verify_locations(cafile=settings.crl_file)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key or None, password="")
    except OSError as error:
        raise refused(f"ca_file, crl_file, client_cert or client_key: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error)


def unreachable(cause: str) -> ServerUnreachable:
    """The error of a server that is not there."""
    return ServerUnreachable(
        "the audit trail was not off-loaded",
        cause=cause,
        remedy="look at the server and the network; records wait and are sent when it is back",
    )


def _broken(error: OSError) -> ServerUnreachable:
    return unreachable(f"the channel broke: {_reason(error)}")
