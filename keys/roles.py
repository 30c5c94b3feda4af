# SPDX-License-Identifier: Apache-2.0
"""Who signs what: one table of roles, with the kind and number of their keys. Knows no key and no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from documents.fields import NAME

P256 = "secp256r1"
P384 = "secp384r1"
CURVES = (P256, P384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one role needs.

    Attributes:
        threshold: how many of its keys must sign.
        keys: how many it has.
        curve: of every key of it.
        offline: its keys are never on a machine that serves anything.
        signs: what it vouches for, for people.
    """

    threshold: int
    keys: int
    curve: str
    offline: bool
    signs: str


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "root": Role(threshold=2, keys=3, curve=P384, offline=True, signs="the keys of all other roles"),
        "targets": Role(threshold=2, keys=3, curve=P384, offline=True, signs="which role releases which channel"),
        "releases": Role(threshold=1, keys=1, curve=P384, offline=True, signs="the releases of one channel"),
        "assignments": Role(threshold=1, keys=1, curve=P256, offline=False, signs="what each host of a fleet may take"),
        "snapshot": Role(threshold=1, keys=1, curve=P256, offline=False, signs="which metadata belongs together"),
        "timestamp": Role(threshold=1, keys=1, curve=P256, offline=False, signs="that this is the newest"),
        # Many TPMs refuse P-384.
        "tpm-policy": Role(threshold=1, keys=1, curve=P256, offline=True, signs="TPM policies of predicted states"),
    }
)

RELEASES = "releases-"
"""What the name of a channel's role starts with."""

_RELEASES = re.compile(f"{RELEASES}(.*)")


def releases_role(channel: str) -> str:
    """The name of the TUF role that releases a channel.

    Raises:
        ValueError: not a channel's name.
    """
    if len(channel) > 63 or not NAME.fullmatch(channel):
        raise ValueError(f"{channel!r} is not a channel's name")
    return f"{RELEASES}{channel}"


def role(name: str) -> Role:
    """The row of a role by its full name, such as ``root`` or ``releases-platform``.

    Raises:
        ValueError: no such role.
    """
    found = ROLES.get("releases" if _RELEASES.fullmatch(name) else name)
    if found is None or name == "releases":
        raise ValueError(f"{name!r} is not a role")
    return found


def key_names(name: str) -> tuple[str, ...]:
    """The names of a role's keys, such as ``root-1``: what its key files are called."""
    return tuple(f"{name}-{number}" for number in range(1, role(name).keys + 1))
