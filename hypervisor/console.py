# SPDX-License-Identifier: Apache-2.0
"""What a guest wrote to its console, made safe to show. A guest may write anything, to cheat who reads it.

Terminal sequences go; other control and invisible characters become visible. Only the text stays, so it is no terminal
emulation: what a guest drew with cursor movements is not laid out.
"""

from __future__ import annotations

import re

# ECMA-48, 5.4 (control sequences), 5.6 (control strings) and 5.3 (escape sequences), with ESC or as one C1 character.
# An unterminated control string loses only its opening, so that nothing hides behind it.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)


def safe_text(untrusted: bytes) -> str:
    """Text of printable characters, tabs and line feeds only.

    Args:
        untrusted: the guest's bytes, taken as UTF-8; what is not is replaced.
    """
    text = _SEQUENCE.sub("", untrusted.decode(errors="replace"))
    # A lone carriage return would let a later text overwrite an earlier one.
    text = re.sub(r"\r+\n?", "\n", text)
    return "".join(c if c.isprintable() or c in "\n\t" else _visible(c) for c in text)


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode()
