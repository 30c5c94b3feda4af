# SPDX-License-Identifier: Apache-2.0
"""What opens keys: a passphrase for files, a module and a PIN for tokens, asked for only when a key needs it.

Where all keys are files, the bytes of the passphrase will do. Nothing here is printed, kept or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock:
    """How to come by secrets.

    Attributes:
        passphrase: of the key files; called once for each key.
        module: the PKCS#11 library for addresses that do not name one; None for none.
        pin: the PIN of a token, by its label; None where nobody can be asked.
    """

    passphrase: Callable[[], bytes] = field(repr=False)
    module: Path | None = None
    pin: Callable[[str], str] | None = field(default=None, repr=False)


Secret: TypeAlias = bytes | Unlock
"""A passphrase, or all that may be needed."""


def unlock(secret: Secret) -> Unlock:
    """The same, in full."""
    return secret if isinstance(secret, Unlock) else Unlock(passphrase=lambda: secret)
