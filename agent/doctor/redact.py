# SPDX-License-Identifier: Apache-2.0
"""Takes out of a text what tells who and where a host is, and what must stay secret, so that it can be shown. Pure.

The same thing becomes the same word everywhere in one report, so that it can still be followed. Digests, UUIDs of VMs
and names of releases stay: they are what a report is about. It cannot know what a person wrote into a title.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----.*?(?:-----END [A-Z0-9 ]{1,60}-----|\Z)", re.DOTALL)
_ACCOUNT: Final = re.compile(r"(?<=://)[^/\s\"'@]{1,300}@")
_SECRET: Final = re.compile(
    r"(?i)(\b[a-z_-]{0,40}(?:password|passwd|passphrase|secret|token|pin)\b[\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}]+)"
)
_MAC: Final = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_IPV4: Final = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")
_IPV6: Final = re.compile(r"(?<![0-9A-Fa-f:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Fa-f:.])")
_MAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_HOME: Final = re.compile(r"(?<=/home/)[^/\s\"']{1,64}")
_LOCAL: Final = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104 (words, not an address to listen at)


class Redactor:
    """Redacts the texts of one report.

    Args:
        names: words that must not show, such as the host's name and its users', by what stands for them.
    """

    def __init__(self, names: Iterable[tuple[str, str]] = ()) -> None:
        self._seen: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        # The longest first: a short name may stand inside a long one.
        chosen = sorted({(word, kind) for word, kind in names if len(word) > 1}, key=lambda pair: (-len(pair[0]), pair))
        self._names = [(re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])"), kind) for word, kind in chosen]

    def redact(self, text: str) -> str:
        """The text without what must not show."""
        text = _PEM.sub("[PEM]", text)
        text = _ACCOUNT.sub("", text)
        text = _SECRET.sub(r"\1[SECRET]", text)
        for pattern, kind in (
            (_MAIL, "MAIL"), (_MAC, "MAC"), (_IPV4, "ADDRESS"), (_IPV6, "ADDRESS"), (_HOME, "USER"), *self._names,
        ):  # fmt: skip
            text = pattern.sub(lambda found, kind=kind: self._word(found.group(), kind), text)  # type: ignore[misc]
        return text

    def _word(self, found: str, kind: str) -> str:
        if found in _LOCAL or (kind == "ADDRESS" and not _is_address(found)):
            return found
        key = found.lower()
        if key not in self._seen:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._seen[key] = f"[{kind}-{self._counts[kind]}]"
        return self._seen[key]


def _is_address(text: str) -> bool:
    """Not a time of day, which looks like one."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
