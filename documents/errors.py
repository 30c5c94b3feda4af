# SPDX-License-Identifier: Apache-2.0
"""Every error that a user can meet, as data: what happened, why, what to do, and whose turn it is (exit code).

Each package declares its own subclasses in its own ``errors.py``. A bug stays a ``ValueError`` or ``TypeError``
and never looks like an attack. This module does not print, translate or log anything.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Exit(enum.IntEnum):
    """Process exit codes; other programs are written against them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_PERMITTED = 4
    REFUSED = 5
    POLICY = 6
    NOT_READY = 7
    UNREACHABLE = 8
    TIMED_OUT = 9
    INTERRUPTED = 130


class VmgateError(Exception):
    """The root of all errors that may be shown to a user.

    Subclasses set ``code`` (unique, what ``vmgate explain`` takes), ``exit`` and ``explanation``.

    Args:
        what: what did not happen, without a full stop.
        cause: why, as far as it is known.
        remedy: what the reader can do now.
    """

    code: ClassVar[str] = "VG000"
    exit: ClassVar[Exit] = Exit.FAILED
    explanation: ClassVar[str] = "vmgate failed in a way that has no code of its own."

    def __init__(self, what: str, *, cause: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        # A cause may hold the words of another program: they must not look like a part of their own.
        return "; ".join(part.replace("; ", ", ") for part in (self.what, self.cause, self.remedy))

    def line(self) -> str:
        """The one line that a user sees. Control characters of untrusted origin are made visible."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"error[{self.code}]: {self}")


class DocumentError(VmgateError):
    """A document is not what its format says. Raised for every malformed input of this package."""

    code = "DC001"
    exit = Exit.REFUSED
    explanation = (
        "A file or message is not in the form that vmgate reads: wrong type, unknown, missing or repeated member, "
        "a number outside its range, a text that is too long, or not the canonical encoding. It was not used."
    )


class DocumentTooLarge(DocumentError):
    """The bytes exceed the bound that stands for this document; nothing was parsed."""

    code = "DC002"
    explanation = "A document is larger than vmgate accepts for its kind. It was refused before it was parsed."


class DocumentNewer(DocumentError):
    """The document carries a version that this vmgate does not know."""

    code = "DC003"
    exit = Exit.NOT_READY
    explanation = "A document was written by a newer vmgate. Update vmgate, or go back with `vmgate update rollback`."


class TomlWrong(DocumentError):
    """A VM definition in TOML, or the file of defaults for one, is not in its form."""

    code = "DC040"
    exit = Exit.USAGE
    explanation = (
        "A VM definition in TOML, or /etc/vmgate/vm-defaults.toml, has a mistake: a syntax error, a key that is "
        "unknown, missing or given twice, or a value out of its bounds. The message names the line where it can. "
        "Nothing was changed. `vmgate vm schema` prints the JSON Schema of a definition."
    )
