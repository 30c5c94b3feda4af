# SPDX-License-Identifier: Apache-2.0
"""The signers of a role, as the repository itself says who they are: not the table of roles, which only begins it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Targets

from keys.signers import names_here, open_role
from keys.unlock import Secret
from updater.repository.errors import SignersMissing

Delegator: TypeAlias = Root | Targets


def role_signers(delegator: Delegator, name: str, keys: Path, secret: Secret) -> list[Signer]:
    """As many signers of a role as it needs.

    Args:
        delegator: says which keys the role has.
        name: of the role.
        keys: folder of the keys.
        secret: opens them.

    Raises:
        SignersMissing: not enough of the role's keys are here.
        KeysError: a key does not open.
        ContentError: a file cannot be read.
    """
    wanted = delegator.get_delegated_role(name)
    found = open_role(name, keys, secret, wanted.keyids)[: wanted.threshold]
    if len(found) < wanted.threshold:
        others = len(names_here(name, keys)) - len(found)
        strange = f", and {others} that are not of this repository or of an earlier time" if others else ""
        raise SignersMissing(
            "nothing was signed",
            cause=f"{name} needs {wanted.threshold} of its keys and {keys} has {len(found)}{strange}",
            remedy="bring the keys, or let an offline role sign a request, made with --request",
        )
    return found
