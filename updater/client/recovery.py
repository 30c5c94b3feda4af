# SPDX-License-Identifier: Apache-2.0
"""When the floor's time may sink: the publisher has replaced the keys that vouched for it.

Whoever holds stolen online keys and a host's clock can drive the floor's time up, at most to where root, targets or a
channel expire. Python-tuf forgets the versions that such keys signed once the root names others (TUF specification
1.0.34, section 5.3.11); so must the floor, or the host would be locked out until that time has come. Root and releases
never sink.
"""

from __future__ import annotations

from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp

from content import durable
from content.errors import ContentError
from keys.anchor import TrustAnchor
from updater.formats import LIMITS


def vouchers_replaced(directory: Path, anchor: TrustAnchor, old: int, new: int) -> bool:
    """Whether no key of ``timestamp`` in one root is one in a later root.

    Args:
        directory: python-tuf's, whose roots up to ``new`` were verified just now.
        anchor: where trust starts.
        old: version of the root under which the floor was raised.
        new: version of the trusted root.
    """
    if old >= new:
        return False
    try:
        return not (_timestamp_keys(directory, anchor, old) & _timestamp_keys(directory, anchor, new))
    except (ContentError, RepositoryError, ValueError):
        return False


def _timestamp_keys(directory: Path, anchor: TrustAnchor, version: int) -> set[str]:
    path = directory / "root_history" / f"{version}.root.json"
    data = anchor.root if version == anchor.version else durable.read_file(path, LIMITS.root)
    root = Metadata[Root].from_bytes(data).signed
    if root.version != version:
        raise ValueError(f"{path} is version {root.version}")
    return set(root.roles[Timestamp.type].keyids)
