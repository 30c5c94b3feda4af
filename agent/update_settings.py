# SPDX-License-Identifier: Apache-2.0
"""The table ``[update]`` of ``vmgate.toml``: when this host may update itself. Read as strictly as the rest."""

from __future__ import annotations

import io
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path

from agent.windows import Window, read_window
from content import durable
from content.errors import Missing

LOCALTIME = Path("/etc/localtime")
MAX_ZONE = 100_000
"""Bytes of a time zone's data."""

MAX_WINDOWS = 32
ZONE = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")
METERED = ("never", "urgent", "always")
_BOUNDS = {
    "stale_days": (1, 365),
    "hook_seconds": (1, 900),
    "notice_seconds": (0, 900),
    "stop_seconds": (1, 900),
    "health_seconds": (0, 3_600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """What the table holds.

    Attributes:
        windows: when it may; at any time if there is none.
        timezone: of the windows, such as ``Europe/Berlin``; empty for the machine's own.
        metered: what is updated over a metered connection.
        stale_days: days out of reach of updates after which that is an alarm.
        hook_seconds: how long one hook may run.
        notice_seconds: how long before VMs restart their users are told.
        stop_seconds: how long a guest may take to shut down.
        health_seconds: how long a generation may take until what worked before works again; 0 for no health check.
    """

    windows: tuple[Window, ...] = field(default=())
    timezone: str = ""
    metered: str = "urgent"
    stale_days: int = 7
    hook_seconds: int = 300
    notice_seconds: int = 60
    stop_seconds: int = 120
    health_seconds: int = 300


def read(untrusted: object, wrong: Callable[[str], Exception]) -> UpdateSettings:
    """Read the table.

    Args:
        untrusted: as TOML has it.
        wrong: makes the error of a cause.
    """
    if not isinstance(untrusted, dict):
        raise wrong("update is not a table")
    values: dict[str, object] = {}
    for key, value in untrusted.items():
        if key not in UpdateSettings.__slots__:
            raise wrong(f"the key 'update.{key[:60]}' is unknown")
        if key == "windows":
            values[key] = _windows(value, wrong)
        elif _fits(key, value):
            values[key] = value
        else:
            raise wrong(f"the value of 'update.{key}' is not in its form")
    return UpdateSettings(**values)  # type: ignore[arg-type]  # every key was checked above


def _fits(key: str, untrusted: object) -> bool:
    if key == "timezone":
        return isinstance(untrusted, str) and _is_zone(untrusted)
    if key == "metered":
        return untrusted in METERED
    low, high = _BOUNDS[key]
    return type(untrusted) is int and low <= untrusted <= high


def _windows(untrusted: object, wrong: Callable[[str], Exception]) -> tuple[Window, ...]:
    if not isinstance(untrusted, list) or len(untrusted) > MAX_WINDOWS:
        raise wrong(f"update.windows is not a list of at most {MAX_WINDOWS} windows")
    found: list[Window] = []
    for text in untrusted:
        window = read_window(text) if isinstance(text, str) else None
        if window is None:
            raise wrong("update.windows has an item that is not as 'Mon-Fri 22:00-05:00', of an hour or more")
        found.append(window)
    return tuple(found)


def zone(settings: UpdateSettings) -> tzinfo:
    """The time zone of the windows; UTC where the machine has none of its own."""
    if settings.timezone:
        return zoneinfo.ZoneInfo(settings.timezone)
    try:
        data = durable.read_file(LOCALTIME, MAX_ZONE)
    except Missing:
        return UTC
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key="localtime")


def _is_zone(untrusted_name: str) -> bool:
    if not ZONE.fullmatch(untrusted_name):
        return False
    try:
        zoneinfo.ZoneInfo(untrusted_name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
