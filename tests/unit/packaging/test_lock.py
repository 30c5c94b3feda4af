# SPDX-License-Identifier: Apache-2.0
"""The package holds all that vmgate depends on, in versions that it allows, each named by its digest."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deb.wheels import LOCK, TOOLS, TOOLS_LOCK

LINE = re.compile(r"([a-z0-9.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def locked(lock: Path) -> dict[str, str]:
    """Versions by name; the first line says where the file comes from."""
    head, *lines = lock.read_text().splitlines()
    assert head.startswith("# Made by `make deb-lock`")
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return {match[1]: match[2] for match in found if match}


def test_every_dependency_is_locked_in_a_version_that_is_allowed() -> None:
    versions = locked(LOCK)
    for line in metadata.requires("vmgate") or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": "", "python_version": "3.11"}):
            version = versions.get(canonicalize_name(wanted.name))
            assert version is not None, f"{wanted.name} is not in the lock: make deb-lock"
            assert wanted.specifier.contains(version, prereleases=True), f"{line}: make deb-lock"


def test_what_builds_is_locked_too_and_is_the_same_where_it_is_both() -> None:
    tools, versions = locked(TOOLS_LOCK), locked(LOCK)
    assert {canonicalize_name(name) for name in TOOLS} <= set(tools)
    assert {name: tools[name] for name in tools.keys() & versions.keys()} == {
        name: versions[name] for name in tools.keys() & versions.keys()
    }


@pytest.mark.parametrize("name", ["vmgate", "pytest", "pip"])
def test_nothing_else_is(name: str) -> None:
    assert name not in locked(LOCK)
