# SPDX-License-Identifier: Apache-2.0
"""The table ``[audit]`` of ``vmgate.toml``: where the trail is off-loaded to. Read as strictly as the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_SERVER = re.compile(r"tls://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[1-9][0-9]{0,4})")
_FILE = re.compile(r"(/[A-Za-z0-9._-]+)+")
_FORMS = {
    "server": _SERVER,
    "ca_file": _FILE,
    "crl_file": _FILE,
    "client_cert": _FILE,
    "client_key": _FILE,
    "full": re.compile("stop"),
    "revocation": re.compile("crl|unsafe-none"),
}
HOURS = range(1, 8_761)
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What the table holds.

    Attributes:
        server: such as ``tls://logs.example.org:6514``; empty for no off-load.
        ca_file: certificates in PEM, which alone are believed of the server.
        crl_file: revocation lists in PEM, one of each authority of the path.
        revocation: ``crl``, or ``unsafe-none`` where no list is looked at.
        client_cert: certificate in PEM that the server asks for; empty for none.
        client_key: its key in PEM; empty where the certificate's file holds it.
        alarm_hours: hours without the server after which that is an alarm.
        full: what happens when there is no room for a record: ``stop``, no act without its record.
    """

    server: str = ""
    ca_file: str = ""
    crl_file: str = ""
    revocation: str = "crl"
    client_cert: str = ""
    client_key: str = ""
    alarm_hours: int = 24
    full: str = "stop"


def read(untrusted: object, wrong: Callable[[str], Exception]) -> AuditSettings:
    """Read the table.

    Args:
        untrusted: as TOML has it.
        wrong: makes the error of a cause.
    """
    if not isinstance(untrusted, dict):
        raise wrong("audit is not a table")
    values: dict[str, object] = {}
    for key, value in untrusted.items():
        if key not in AuditSettings.__slots__:
            raise wrong(f"the key 'audit.{key[:60]}' is unknown")
        if not _fits(key, value):
            raise wrong(f"the value of 'audit.{key}' is not in its form")
        values[key] = value
    settings = AuditSettings(**values)  # type: ignore[arg-type]  # every key was checked above
    _require_whole(settings, wrong)
    return settings


def _fits(key: str, untrusted: object) -> bool:
    if key == "alarm_hours":
        return type(untrusted) is int and untrusted in HOURS
    if not isinstance(untrusted, str) or not _FORMS[key].fullmatch(untrusted):
        return False
    return key != "server" or address(untrusted)[1] <= MAX_PORT


def _require_whole(settings: AuditSettings, wrong: Callable[[str], Exception]) -> None:
    """Require what a server cannot be checked without; what is there for no server is a slip of somebody's."""
    if settings.server and not settings.ca_file:
        raise wrong("audit.server wants audit.ca_file: the authorities that are believed of it")
    if settings.server and settings.revocation == "crl" and not settings.crl_file:
        raise wrong('audit.server wants audit.crl_file, or audit.revocation = "unsafe-none"')
    if settings.crl_file and settings.revocation != "crl":
        raise wrong("audit.crl_file and audit.revocation contradict each other")
    if settings.client_key and not settings.client_cert:
        raise wrong("audit.client_key wants audit.client_cert")
    if not settings.server and (settings.ca_file or settings.crl_file or settings.client_cert):
        raise wrong("audit has files for a server and no audit.server")


def address(server: str) -> tuple[str, int]:
    """Host and port of a server in its form."""
    found = _SERVER.fullmatch(server)
    if found is None:
        raise ValueError(server)
    return found["host"].strip("[]").lower(), int(found["port"])
