# SPDX-License-Identifier: Apache-2.0
"""A report that can be given away: what the doctor found, what the agent says, the newest audit records, redacted.

One gzipped tar of small JSON and text files, the same bytes for the same contents. This module reads no host itself.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

from agent.doctor.redact import Redactor

FOLDER: Final = "vmgate-report"
LIMIT: Final = 5_000_000
"""Bytes of one file of a report; what is longer is cut at its beginning, as the newest is at the end."""


def make_report(contents: Mapping[str, Any], redactor: Redactor) -> bytes:
    """Pack a report.

    Args:
        contents: file names and what they hold: text, or values that JSON can show.
        redactor: takes out what must not show.

    Returns:
        The archive, a ``.tar.gz``.
    """
    packed = io.BytesIO()
    with tarfile.TarFile(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(contents):
            value = contents[name]
            text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True) + "\n"
            data = redactor.redact(text[-LIMIT:]).encode(errors="replace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
