# SPDX-License-Identifier: Apache-2.0
"""VM definitions and security policies: from the TOML that people write to the documents that are signed.

A definition names its images; the document names their digests. This module does not read files and does not judge
whether a host would accept the VM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from content.fsverity import Measured
from documents import definition_toml
from documents.canonical import Json
from documents.definition import VmDefinition
from documents.security_policy import DIGESTS, DRIFT, STATELESS, SecurityPolicy
from documents.tables import Table, read_table
from publisher.errors import RecipeWrong


def read_definition(untrusted_bytes: bytes, source: PurePath, images: Mapping[str, Measured]) -> VmDefinition:
    """Read a VM definition of a release; see ``documents.definition_toml``.

    Args:
        untrusted_bytes: TOML.
        source: the file, for messages.
        images: what the release has, by name.

    Raises:
        RecipeWrong: not TOML, an unknown or missing key, a value out of its bounds, or an unknown image.
        DocumentError: two disks of one name.
    """
    return definition_toml.read_definition(read_table(untrusted_bytes, source, RecipeWrong), images)


def read_policy(table: Table) -> SecurityPolicy:
    """Read a security policy; the order of ``allow`` and ``disks`` does not matter, and defaults may be written.

    Raises:
        RecipeWrong: an unknown or missing key, or a value out of its bounds.
    """
    allow = table.take_list("allow", lambda part: part, 100)
    texts: list[Json] = [*sorted(part for part in allow if isinstance(part, str))]
    rest: list[Json] = [part for part in allow if not isinstance(part, str)]
    chosen: dict[str, Json] = {}
    for name, choices in (("digests", DIGESTS), ("drift", DRIFT)):
        choice = table.take_choice(name, choices) if table.has(name) else choices[0]
        if choice != choices[0]:
            chosen[name] = choice
    whole = table.with_value("allow", texts + rest)
    if table.has("disks"):
        disks = tuple(sorted(table.take_list("disks", lambda part: part if isinstance(part, str) else "", 100)))
        if disks != STATELESS:
            chosen["disks"] = list(disks)
    for name, value in chosen.items():
        whole = whole.with_value(name, value)
    policy = SecurityPolicy.read(whole)
    whole.finish()
    return policy
