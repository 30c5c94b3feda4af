# SPDX-License-Identifier: Apache-2.0
"""Programs of tests at another time. Only their wall clock is moved: what they wait for takes as long as ever."""

from __future__ import annotations

from pathlib import Path


def at(time: str) -> tuple[str, ...]:
    """What runs a command at another time. The program ``faketime`` would stay as its parent, and keep signals."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return ("env", "TZ=UTC", f"LD_PRELOAD={library}", f"FAKETIME={time}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
