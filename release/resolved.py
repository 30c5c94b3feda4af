# SPDX-License-Identifier: Apache-2.0
"""Which distributions a wheel was resolved to, with their digests, from pip's report; and the lock file of it.

Source: pip's installation report, version 1. Pure: pip is run by ``release.__main__``. It trusts the index and says
what it gave; whoever installs with the lock file gets the same bytes or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One distribution.

    Attributes:
        name: as PyPI writes it (PEP 503).
        version: as it says.
        sha256: of the file that pip would install, hexadecimal.
        file: its name.
        licence: an SPDX expression where its metadata has one, else what they say; may be empty.
        needs: names of those of the resolved distributions that it asks for.
    """

    name: str
    version: str
    sha256: str
    file: str
    licence: str = ""
    needs: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(report: Mapping[str, Any]) -> tuple[Distribution, ...]:
    """The distributions of a report, by name.

    Raises:
        ValueError: not a report of version 1, or a distribution without a digest: it was not taken from a file.
    """
    if report.get("version") != "1":
        raise ValueError("not a report of pip in version 1")
    items = report["install"]
    known = {normal(item["metadata"]["name"]) for item in items}
    return tuple(sorted((_distribution(item, known) for item in items), key=lambda one: one.name))


def _distribution(item: Mapping[str, Any], known: set[str]) -> Distribution:
    metadata, source = item["metadata"], item["download_info"]
    name = normal(metadata["name"])
    digest = source.get("archive_info", {}).get("hashes", {}).get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{name} has no digest")
    asked = {normal(re.split(r"[^\w.-]", need, maxsplit=1)[0]) for need in metadata.get("requires_dist", [])}
    licence = metadata.get("license_expression") or metadata.get("license") or ""
    return Distribution(
        name=name, version=metadata["version"], sha256=digest, file=source["url"].rpartition("/")[2],
        licence=licence.strip().splitlines()[0] if licence.strip() else "", needs=tuple(sorted(asked & known - {name})),
    )  # fmt: skip


def lock(distributions: tuple[Distribution, ...], name: str) -> bytes:
    """What ``pip install --require-hashes -r`` reads: all of them but the wheel itself."""
    lines = [f"{one.name}=={one.version} --hash=sha256:{one.sha256}" for one in distributions if one.name != name]
    return ("\n".join(lines) + "\n").encode()
