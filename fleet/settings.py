# SPDX-License-Identifier: Apache-2.0
"""The folder of a fleet's service: where its files lie, and its settings, read strictly.

Settings say where things are and how patient the service is, never whom it believes: that is in the folder ``roots``
and in the reference values that an administrator gave. This module writes nothing.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from content import durable
from content.errors import ContentError, Missing
from documents.enrolment import SECONDS
from documents.fields import NAME
from fleet.errors import FolderWrong

MAX_BYTES = 20_000
SECRET_SIZE = 32
METRICS_TOKEN = 32
"""Fewest characters of what lets a monitoring system in."""

_TEXTS = {
    "name": NAME,
    "database": re.compile(r"(sqlite:///|postgresql\+psycopg://)[^\s]{0,400}"),
    "listen": re.compile(r"(\[[0-9a-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}"),
    "certificate": re.compile(r"[^\x00]{1,300}"),
    "key": re.compile(r"[^\x00]{1,300}"),
    "channel": NAME,
}
_NUMBERS = {"interval": range(SECONDS[0], SECONDS[1] + 1), "processes": range(1, 65)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What ``fleet.toml`` holds.

    Attributes:
        name: of the fleet.
        database: address: ``sqlite:///PATH`` or ``postgresql+psycopg://...``; one that is relative lies in the folder.
        listen: address and port.
        certificate: of the server, in PEM, with its issuers.
        key: the certificate's.
        channel: platform channel of hosts that were given no other.
        interval: seconds between two attestations of a host.
        approval: whether new hosts wait for an administrator.
        processes: that serve.
    """

    name: str = "fleet"
    database: str = "sqlite:///fleet.db"
    listen: str = "127.0.0.1:8443"
    certificate: str = "tls/server.pem"
    key: str = "tls/server.key"
    channel: str = "platform"
    interval: int = 300
    approval: bool = False
    processes: int = 1

    def encode(self) -> bytes:
        """As TOML. All texts are in forms that need no escape but that of TOML's basic strings."""
        lines = []
        for item in fields(self):
            value = getattr(self, item.name)
            text = str(value).lower() if isinstance(value, bool) else str(value)
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{item.name} = "{quoted}"' if isinstance(value, str) else f"{item.name} = {text}")
        return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, slots=True)
class FleetFolder:
    """The files of one service.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Configuration."""
        return self.root / "fleet.toml"

    @property
    def roots(self) -> Path:
        """Vendors of TPMs that are believed; see ``measure.ek_roots``."""
        return self.root / "roots"

    @property
    def secret(self) -> Path:
        """What nonces and tickets are made with; the same for all processes, and in no database."""
        return self.root / "keys/secret"

    @property
    def result_key(self) -> Path:
        """Signs results."""
        return self.root / "keys/result.key"

    @property
    def metrics_token(self) -> Path:
        """What lets a monitoring system in; where it is not there nobody is."""
        return self.root / "keys/metrics"

    @property
    def ca(self) -> Path:
        """Certificate of the fleet's own authority, for hosts."""
        return self.root / "tls/ca.pem"

    @property
    def ca_key(self) -> Path:
        """Key of that authority."""
        return self.root / "tls/ca.key"

    def inside(self, name: str) -> Path:
        """A path of the settings: one that is relative lies in the folder."""
        return self.root / name

    def database(self, settings: FleetSettings) -> str:
        """The database's address, with the folder where it is relative."""
        prefix = "sqlite:///"
        if not settings.database.startswith(prefix):
            return settings.database
        return prefix + str(self.root.absolute() / settings.database.removeprefix(prefix))

    def load(self) -> FleetSettings:
        """Read the settings.

        Raises:
            FolderWrong: they are not there, not TOML, or a value is not in its form.
        """
        try:
            untrusted = tomllib.loads(durable.read_file(self.settings, MAX_BYTES).decode())
        except Missing as error:
            raise wrong(self.settings, "it is not there") from error
        except (ValueError, RecursionError, ContentError) as error:
            raise wrong(self.settings, f"it was not read: {error}") from error
        unknown = sorted(set(untrusted) - {item.name for item in fields(FleetSettings)})
        if unknown:
            raise wrong(self.settings, f"the key {unknown[0][:60]!r} is unknown")
        return checked(FleetSettings(**untrusted), self.settings)

    def read_secret(self) -> bytes:
        """The secret of nonces and tickets.

        Raises:
            FolderWrong: it is not there, or has another size.
        """
        try:
            secret = durable.read_file(self.secret, SECRET_SIZE + 1)
        except ContentError as error:
            raise wrong(self.secret, error.cause) from error
        if len(secret) != SECRET_SIZE:
            raise wrong(self.secret, f"it has not {SECRET_SIZE} bytes")
        return secret

    def read_metrics_token(self) -> str:
        """What lets a monitoring system in; empty for nobody.

        Raises:
            FolderWrong: it is too short to be one, or cannot be read.
        """
        try:
            token = durable.read_file(self.metrics_token, 1_000).decode("ascii", "replace").strip()
        except Missing:
            return ""
        except ContentError as error:
            raise wrong(self.metrics_token, error.cause) from error
        if len(token) < METRICS_TOKEN:
            raise wrong(self.metrics_token, f"it has fewer than {METRICS_TOKEN} characters")
        return token


def checked(settings: FleetSettings, where: Path = Path("fleet.toml")) -> FleetSettings:
    """The settings, if each is in its form.

    Raises:
        FolderWrong: one is not.
    """
    for item in fields(settings):
        if not _is_in_form(item.name, getattr(settings, item.name)):
            raise wrong(where, f"the value of {item.name!r} is not in its form")
    return settings


def wrong(path: Path, cause: str) -> FolderWrong:
    """The error for a folder that cannot be served from."""
    return FolderWrong(
        f"{path} was not used", cause=cause, remedy="correct it, or make a folder with `vmgate fleet init`"
    )


def _is_in_form(key: str, value: object) -> bool:
    if key == "approval":
        return isinstance(value, bool)
    if key in _NUMBERS:
        return type(value) is int and value in _NUMBERS[key]
    return isinstance(value, str) and _TEXTS[key].fullmatch(value) is not None
