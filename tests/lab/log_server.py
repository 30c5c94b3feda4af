# SPDX-License-Identifier: Apache-2.0
"""A log server on 127.0.0.1 that reads syslog over TLS by octet counting, and one in the middle who flips a byte."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

from documents.audit import AuditRecord


class LogServer:
    """One that can be stopped and started again on its port; it keeps all that it ever received.

    Args:
        certificate: file in PEM.
        key: file in PEM.
        clients: certificates in PEM, one of which must have signed a client's; None where clients need none.
    """

    def __init__(self, certificate: Path, key: Path, clients: Path | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self.port = 0
        self.messages: list[bytes] = []
        self.channels = 0
        self._arrived = threading.Condition()
        self._open: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """End all channels, at once and without a word, as a machine that loses its power."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._open:
            line = self._open.pop()
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            self._open.append(line)
            threading.Thread(target=self._read, args=(line,), daemon=True).start()

    def _read(self, line: socket.socket) -> None:
        try:
            with self._context.wrap_socket(line, server_side=True) as secured:
                self._open.append(secured)
                self.channels += 1
                with secured.makefile("rb") as stream:
                    while True:
                        self._take(stream.read(_length(stream)))
        except (OSError, ValueError):
            line.close()

    def _take(self, message: bytes) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait(self, count: int) -> None:
        """Wait until so many messages came."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.messages) >= count, 60):
                raise TimeoutError(f"{len(self.messages)} messages of {count}")

    def sequences(self) -> list[int]:
        """Of the records, as they came."""
        return [record(message).sequence for message in self.messages]


def record(message: bytes) -> AuditRecord:
    """The record that a message carries."""
    return AuditRecord.parse(message[message.index(b"] {") + 2 :])


def _length(stream: object) -> int:
    digits = b""
    while (byte := stream.read(1)) != b" ":  # type: ignore[attr-defined]
        if not byte.isdigit():
            raise ValueError(byte)
        digits += byte
    return int(digits)


class Flipper:
    """Somebody between host and server who flips a bit once, in what the host sends after so many bytes."""

    def __init__(self, target: int, after: int) -> None:
        self._target = target
        self._after = after
        self.flipped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            onward = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass, args=(line, onward, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(onward, line, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, flip: bool) -> None:
        seen = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                where = self._after - seen
                seen += len(data)
                if flip and not self.flipped.is_set() and 0 <= where < len(data):
                    data = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
                    self.flipped.set()
                target.sendall(data)
        for line in (source, target):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Pass nothing on any more."""
        self._listener.close()
