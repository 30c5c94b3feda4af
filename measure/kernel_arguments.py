# SPDX-License-Identifier: Apache-2.0
"""A kernel command line against what a signed policy asks of it. This module reads no file.

Words are split as the kernel does it (lib/cmdline.c, ``next_arg``): by white space outside of double quotes. In a
parameter's name, before ``=``, a dash and an underscore are the same (kernel/params.c, ``parameq``).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from documents.security_policy import SecurityPolicy
from documents.verdict import Finding
from measure.findings import finding

CHECK = "kernel-argument"
NOBODY = "no such word"


def argument_findings(command_line: bytes | None, policy: SecurityPolicy) -> Iterator[Finding]:
    """One finding for each pattern of the policy; none where it has no patterns.

    Args:
        command_line: as the kernel tells it; None where it is not known, which fails.
        policy: of the platform release.
    """
    patterns = (*policy.kernel_required, *policy.kernel_denied)
    if command_line is None:
        for pattern in patterns:
            yield finding(CHECK, pattern, "a known command line", "an unknown command line", good=False)
        return
    found = words(command_line)
    ours = found[: found.index("--")] if "--" in found else found
    for pattern in policy.kernel_required:
        # What stands after `--` is for init, and the kernel does not heed it.
        yield finding(CHECK, pattern, "a word like it", _fitting(pattern, ours) or NOBODY, good=_fits(pattern, ours))
    for pattern in policy.kernel_denied:
        # Here it counts: init and systemd read all of the line.
        yield finding(CHECK, pattern, NOBODY, _fitting(pattern, found) or NOBODY, good=not _fits(pattern, found))


def words(command_line: bytes) -> list[str]:
    """The words of a command line, without quotes; what is not printable ASCII is shown as ``?``."""
    text = "".join(chr(c) if 0x20 < c < 0x7F else " " if c in b" \t\r\n\v\f\0" else "?" for c in command_line)
    found, word, quoted = [], "", False
    for character in text + " ":
        if character == '"':
            quoted = not quoted
        elif character != " " or quoted:
            word += character
        elif word:
            found.append(word)
            word = ""
    # A quote that is never closed holds the rest.
    return [*found, *word.split()] if word else found


def _fits(pattern: str, found: list[str]) -> bool:
    return bool(_fitting(pattern, found))


def _fitting(pattern: str, found: list[str]) -> str:
    """The first word that fits, cut to what a finding holds; empty for none."""
    wanted = _plain(pattern)
    return next((word[:300] for word in found if fnmatchcase(_plain(word), wanted)), "")


def _plain(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("-", "_") + equals + value
