# SPDX-License-Identifier: Apache-2.0
"""The licences that a Debian package's copyright file names, where it does so for machines.

Source: Debian "Machine-readable debian/copyright file", 1.0 (DEP-5). Pure. Nothing is guessed from a text for people,
and which licence is for which file is not told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_FORMAT: Final = re.compile(r"^Format: *https?://[^ ]*copyright-format/1\.\d+/? *$", re.MULTILINE)
_LICENSE: Final = re.compile(r"^License: *([!-~][ -~]{0,199}?) *$", re.MULTILINE)
MAX_LICENCES: Final = 200

SPDX: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Apache-2.0": "Apache-2.0",
        "BSD-2-clause": "BSD-2-Clause",
        "BSD-3-clause": "BSD-3-Clause",
        "CC0-1.0": "CC0-1.0",
        "Expat": "MIT",
        "GPL-2": "GPL-2.0-only",
        "GPL-2+": "GPL-2.0-or-later",
        "GPL-3": "GPL-3.0-only",
        "GPL-3+": "GPL-3.0-or-later",
        "ISC": "ISC",
        "LGPL-2": "LGPL-2.0-only",
        "LGPL-2+": "LGPL-2.0-or-later",
        "LGPL-2.1": "LGPL-2.1-only",
        "LGPL-2.1+": "LGPL-2.1-or-later",
        "LGPL-3": "LGPL-3.0-only",
        "LGPL-3+": "LGPL-3.0-or-later",
        "MPL-2.0": "MPL-2.0",
        "Zlib": "Zlib",
    }
)
"""SPDX identifiers of the short names that Debian defines otherwise, or the same, without doubt."""


def licences(untrusted_file: bytes) -> tuple[str, ...]:
    """The short names as written, each once, sorted; none if the file is not for machines."""
    text = untrusted_file.decode(errors="replace")
    # The format stands in the first paragraph.
    if not _FORMAT.search(text.lstrip().partition("\n\n")[0]):
        return ()
    return tuple(sorted(set(_LICENSE.findall(text)))[:MAX_LICENCES])
