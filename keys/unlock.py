# SPDX-License-Identifier: Apache-2.0
"""What opens keys: a passphrase for files, a module or a TPM, and a PIN. Asked for only when a key needs it.

Where all keys are files, the bytes of the passphrase will do. Nothing here is printed, kept or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from keys.tpm import SigningTpm


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock:
    """How to come by secrets.

    Attributes:
        passphrase: of the key files; called once for each key.
        module: the PKCS#11 library for addresses that do not name one; None for none.
        pin: the PIN of a token, by its label, or of a key in a TPM, by its name; None where nobody can be asked.
        tcti: how to reach the TPM (TCTI) for addresses that do not name one; "" for none.
        tpm: the TPM at a TCTI; None where TPMs are out of reach.
    """

    passphrase: Callable[[], bytes] = field(repr=False)
    module: Path | None = None
    pin: Callable[[str], str] | None = field(default=None, repr=False)
    tcti: str = ""
    tpm: Callable[[str], SigningTpm] | None = None


Secret: TypeAlias = bytes | Unlock
"""A passphrase, or all that may be needed."""


def unlock(secret: Secret) -> Unlock:
    """The same, in full."""
    return secret if isinstance(secret, Unlock) else Unlock(passphrase=lambda: secret)
