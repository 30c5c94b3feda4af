# SPDX-License-Identifier: Apache-2.0
"""The banner: a text that is shown before any interactive management (FTA_TAB.1). Set by administrators, read by all.

It is kept literally; whoever shows it makes control characters visible. This module shows nothing.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import BannerWrong
from content import durable
from content.errors import ContentError, Missing

MAX_CHARACTERS = 4_000
MAX_BYTES = 4 * MAX_CHARACTERS


def require_banner(untrusted_text: str) -> str:
    """The text of a banner; an empty one takes the banner away.

    Raises:
        BannerWrong: it is too long, or cannot be written as UTF-8.
    """
    if len(untrusted_text) > MAX_CHARACTERS:
        raise _wrong(f"it has more than {MAX_CHARACTERS} characters")
    try:
        untrusted_text.encode()
    except UnicodeEncodeError as error:
        raise _wrong("it is not UTF-8") from error
    return untrusted_text


def write(path: Path, text: str) -> None:
    """Set the banner, durably.

    Raises:
        BannerWrong: see ``require_banner``; the old one stays.
        ContentError: it cannot be written; the old one stays.
    """
    if require_banner(text):
        durable.write_file(path, text.encode(), 0o644)
    else:
        durable.remove(path)


def read(path: Path) -> str:
    """The banner; empty where there is none.

    Raises:
        BannerWrong: what is there cannot be read as one.
    """
    try:
        untrusted = durable.read_file(path, MAX_BYTES)
        return require_banner(untrusted.decode())
    except Missing:
        return ""
    except (ContentError, UnicodeDecodeError) as error:
        raise _wrong(str(error)) from error


def _wrong(cause: str) -> BannerWrong:
    return BannerWrong("that is no banner", cause=cause, remedy="`vmgate banner set` takes a text of 4,000 characters")
