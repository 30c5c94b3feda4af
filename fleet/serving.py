# SPDX-License-Identifier: Apache-2.0
"""The service as processes: one socket, TLS always, one uvicorn server in each process, ended by a signal.

Processes are alike and keep nothing: the parent starts another one where one ends. This module knows no path.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from fleet import app, logs
from fleet.bounds import PatientProtocol
from fleet.database import Database
from fleet.errors import FolderWrong
from fleet.migrate import require_current
from fleet.settings import FleetFolder, FleetSettings, wrong

CONNECTIONS: Final = 1_000
"""Of one process; more are told to come again."""

BACKLOG: Final = 512
IDLE_SECONDS: Final = 15
END_SECONDS: Final = 30
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all good."""


def serve(root: Path, ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Args:
        root: the service's folder.
        ready: is told the address, once hosts may connect.

    Raises:
        FolderWrong: settings, certificates or keys cannot be used, or the address is taken.
        SchemaOther: the database is of another version.
        DatabaseFailed: the database does not answer.
    """
    folder = FleetFolder(root.absolute())
    settings = folder.load()
    folder.read_secret()
    database = Database(folder.database(settings))
    try:
        require_current(database)
    finally:
        database.close()
    _context(folder, settings)
    with _listening(folder, settings) as listener:
        host, port = listener.getsockname()[:2]
        config = _config(folder, settings)
        ready(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
        for number in (signal.SIGTERM, signal.SIGINT):
            # Uvicorn ends in order, and then raises again what made it end.
            signal.signal(number, lambda *_: None)
        if settings.processes == 1:
            Server(config).run(sockets=[listener])
        else:
            Multiprocess(config, sockets=[listener]).run()


def _config(folder: FleetFolder, settings: FleetSettings) -> Config:
    return Config(
        # Pickled to each process, which builds its own.
        app=partial(_process, folder.root),
        factory=True,
        http=PatientProtocol,
        ws="none",
        workers=settings.processes,
        ssl_context_factory=partial(_tls, folder, settings),
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        # Lines of JSON on standard error: ``fleet.logs``.
        log_config=logs.CONFIGURATION,
        log_level="warning",
    )


def _process(root: Path) -> FastAPI:
    """What one process serves. One of several ends in order when the first is gone, however that went."""
    if (parent := multiprocessing.parent_process()) is not None:

        def outlive() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=outlive, name="parent", daemon=True).start()
    return app.build(root)


def _listening(folder: FleetFolder, settings: FleetSettings) -> socket.socket:
    name, _, port = settings.listen.rpartition(":")
    host = name.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        # From here on hosts may come; they wait until a process takes them.
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise wrong(folder.settings, f"{settings.listen} cannot be listened on: {error}") from error
    listener.set_inheritable(True)
    return listener


def _tls(folder: FleetFolder, settings: FleetSettings, _config: Config, _default: Any) -> ssl.SSLContext:
    return _context(folder, settings)


def _context(folder: FleetFolder, settings: FleetSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    certificate, key = folder.inside(settings.certificate), folder.inside(settings.key)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise FolderWrong(
            "the service did not start",
            cause=f"{certificate} or its key cannot be used: {error}",
            remedy="put a certificate in PEM and its key there, or correct fleet.toml",
        ) from error
    return context
