# SPDX-License-Identifier: Apache-2.0
"""What the service tells whoever runs it: one JSON object a line on standard error. Diagnostics; evidence is the trail.

What strangers sent stands in it as text that no terminal acts on.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

MOST: Final = 4_000
"""Characters of one message."""


class Lines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        members = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage()[:MOST],
        }
        if record.exc_info:
            members["error"] = self.formatException(record.exc_info)[-MOST:]
        return json.dumps(members, ensure_ascii=True).replace("\x7f", "\\u007f")


CONFIGURATION: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": "fleet.logs.Lines"}},
    "handlers": {"error": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}},
    "loggers": {
        "uvicorn": {"handlers": ["error"], "level": "WARNING", "propagate": False},
        "fleet": {"handlers": ["error"], "level": "WARNING", "propagate": False},
    },
}
"""For ``logging.config.dictConfig``. Refusals are at INFO and left out: strangers could fill a disk with them; the
audit trail has as many as there is room for."""
