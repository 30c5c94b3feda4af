# SPDX-License-Identifier: Apache-2.0
"""The table ``[site]`` of ``vmgate.toml``: the site's own repository, on top of the publisher's. Read as strictly.

The settings name the digest of its anchor, and settings are measured: so whom this host follows besides its publisher
is in its evidence. This module opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from documents.fields import NAME

_DIGEST = re.compile(r"(sha256:)?(?P<hex>[0-9a-f]{64})")
_FILE = re.compile(r"(/[A-Za-z0-9._-]+)+")
MOST_CHANNELS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """What the table holds.

    Attributes:
        repository: base URL; empty for a site whose releases come in bundles only.
        channels: that this host follows of it; none for a host that follows no site.
        anchor: file with the root metadata from which the site is followed.
        identity: fs-verity digest that this file must have, in hexadecimal.
    """

    repository: str = ""
    channels: tuple[str, ...] = ()
    anchor: str = ""
    identity: str = ""


def read(untrusted: object, is_address: Callable[[str], bool], wrong: Callable[[str], Exception]) -> SiteSettings:
    """Read the table.

    Args:
        untrusted: as TOML has it.
        is_address: whether a text is the address of a repository.
        wrong: makes the error of a cause.
    """
    if not isinstance(untrusted, dict):
        raise wrong("site is not a table")
    unknown = sorted(set(untrusted) - set(SiteSettings.__slots__))
    if unknown:
        raise wrong(f"the key 'site.{unknown[0][:60]}' is unknown")
    for key in ("channels", "anchor", "identity"):
        if key not in untrusted:
            raise wrong(f"site wants site.{key}")
    repository, anchor, identity = (untrusted.get(key, "") for key in ("repository", "anchor", "identity"))
    if not isinstance(repository, str) or (repository and not is_address(repository)):
        raise wrong("the value of 'site.repository' is not in its form")
    if not isinstance(anchor, str) or not _FILE.fullmatch(anchor):
        raise wrong("the value of 'site.anchor' is not in its form")
    found = _DIGEST.fullmatch(identity) if isinstance(identity, str) else None
    if found is None:
        raise wrong("the value of 'site.identity' is not in its form")
    channels = _channels(untrusted["channels"], wrong)
    return SiteSettings(repository=repository, channels=channels, anchor=anchor, identity=found["hex"])


def _channels(untrusted: object, wrong: Callable[[str], Exception]) -> tuple[str, ...]:
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= MOST_CHANNELS:
        raise wrong(f"site.channels is not a list of 1 to {MOST_CHANNELS} names")
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in untrusted):
        raise wrong("site.channels has an item that is not a name")
    if len(set(untrusted)) != len(untrusted):
        raise wrong("site.channels has a name twice: they must be distinct")
    return tuple(sorted(untrusted))
