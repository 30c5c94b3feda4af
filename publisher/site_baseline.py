# SPDX-License-Identifier: Apache-2.0
"""From what ``vmgate config check -o json`` printed on a site's model hosts to the baseline that a release carries.

The publisher looked at them before; this module only joins them, and does not ask whether they are good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from documents.errors import DocumentError
from documents.site_baseline import SiteBaseline

VOUCHED = "publisher"
"""Authority of what the release names anyway: a baseline adds nothing to it."""


def join_checks(untrusted_checks: Mapping[str, bytes]) -> SiteBaseline:
    """Join the checks of some hosts.

    Args:
        untrusted_checks: what was printed, by the name of its file.

    Raises:
        ValueError: one is no such output, something on its host could not be measured, or there is nothing to approve.
    """
    found: dict[str, set[str]] = {}
    for name, untrusted_check in untrusted_checks.items():
        for subject, digest in _things(name, untrusted_check):
            found.setdefault(subject, set()).add(digest)
    if not found:
        raise ValueError("names no file, or nothing that the release does not name anyway")
    baseline = SiteBaseline(entries=tuple((subject, tuple(sorted(found[subject]))) for subject in sorted(found)))
    try:
        return SiteBaseline.parse(baseline.encode())
    except DocumentError as error:
        raise ValueError(f"makes no baseline: {error.cause}") from error


def _things(name: str, untrusted_check: bytes) -> list[tuple[str, str]]:
    """Subject and digest of each thing that one host has of its own."""
    try:
        things = json.loads(untrusted_check)["things"]
        found = [(thing["subject"], thing["found"], thing["authority"]) for thing in things]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"names {name}, which is not what `vmgate config check -o json` prints") from error
    if not all(isinstance(text, str) for thing in found for text in thing):
        raise ValueError(f"names {name}, which is not what `vmgate config check -o json` prints")
    unreadable = next((subject for subject, digest, _ in found if digest == "unreadable"), None)
    if unreadable is not None:
        raise ValueError(f"names {name}, on whose host {unreadable[:120]} could not be measured")
    return [(subject, digest) for subject, digest, authority in found if authority != VOUCHED]
