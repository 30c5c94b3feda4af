# SPDX-License-Identifier: Apache-2.0
"""Passwords of a fleet's administrators: what one must be like, what is kept of it, and whether one is right.

Kept is PBKDF2-HMAC-SHA-512 (SP 800-132, RFC 8018) with a salt of its own. Any character may stand in a password that is
not a control character, and there is no most that anybody meets (FIA_PMG_EXT.1). Pure but for the salt; counts no
failures (``fleet.admins`` does).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from functools import cache
from typing import Final

from fleet.errors import PasswordWeak

ITERATIONS: Final = 210_000
"""What OWASP's password storage cheat sheet asks for with SHA-512."""

MOST_ITERATIONS: Final = 2 * ITERATIONS
SALT_SIZE: Final = 16
MOST: Final = 1_024
"""Characters."""

DISTINCT: Final = 5
"""Fewest different characters: a row of one is as long as wanted, and no password."""

_SCHEME: Final = "pbkdf2-sha512"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,7}")


def require_good(password: str, name: str, least: int) -> None:
    """Require that a password may be set.

    Args:
        password: as it was typed.
        name: of the account.
        least: fewest characters.

    Raises:
        PasswordWeak: it may not.
    """
    if len(password) < least:
        raise weak(f"it has fewer than {least} characters")
    if len(password) > MOST:
        raise weak(f"it has more than {MOST} characters")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise weak("it has control characters")
    if len(set(password)) < DISTINCT:
        raise weak(f"it has fewer than {DISTINCT} different characters")
    if name.casefold() in password.casefold():
        raise weak("the account's name is part of it")


def kept(password: str, iterations: int = ITERATIONS) -> str:
    """What is kept of a password."""
    salt = secrets.token_bytes(SALT_SIZE)
    parts = (base64.b64encode(part).decode() for part in (salt, _derived(password, salt, iterations)))
    return "$".join((_SCHEME, str(iterations), *parts))


def is_right(password: str, known: str) -> bool:
    """Whether a password is the one of which that was kept. What was kept in no known form fits none."""
    scheme, _, rest = known.partition("$")
    iterations, _, rest = rest.partition("$")
    salt, _, derived = rest.partition("$")
    if scheme != _SCHEME or len(password) > MOST:
        return False
    # Not more rounds than anybody sets: who damages a row must not keep a process busy.
    if not _NUMBER.fullmatch(iterations) or int(iterations) > MOST_ITERATIONS:
        return False
    try:
        expected = base64.b64decode(derived, validate=True)
        found = _derived(password, base64.b64decode(salt, validate=True), int(iterations))
    except ValueError:  # no base64, or no such number of iterations
        return False
    return hmac.compare_digest(found, expected)


@cache
def nobodys() -> str:
    """What is kept of nobody's password: looked at where there is no such account, so that it takes as long."""
    return kept(secrets.token_urlsafe(32))


def _derived(password: str, salt: bytes, iterations: int) -> bytes:
    # Keyboards write the same letter in more than one way.
    typed = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.pbkdf2_hmac("sha512", typed, salt, iterations)


def weak(cause: str) -> PasswordWeak:
    """The error for a password that may not be set."""
    return PasswordWeak("the password was not set", cause=cause, remedy="choose another one")
