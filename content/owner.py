# SPDX-License-Identifier: Apache-2.0
"""Giving a file or directory of ours to another account of this host. This module does not decide who gets what."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from content import effects
from content.errors import StorageFailed, storage


def give(path: Path, account: str) -> None:
    """Make an account and the group of its name the owner of a file or directory; a link is not followed.

    Raises:
        StorageFailed: there is no such account, or it failed.
    """
    try:
        user, group = pwd.getpwnam(account).pw_uid, grp.getgrnam(account).gr_gid
    except KeyError as error:
        raise StorageFailed(
            f"{path} was not given to {account}",
            cause="this host has no such account",
            remedy="install the package that brings it",
        ) from error
    with storage(f"it was not given to {account}", path), effects.opened(path, os.O_RDONLY | os.O_NOFOLLOW) as opened:
        effects.chown(opened, user, group)
        effects.fsync(opened)
