# SPDX-License-Identifier: Apache-2.0
"""Audit records as syslog messages: RFC 5424, framed by octet counting as RFC 5425 section 4.3 has it.

The structured data is for collectors that search; the message itself is the record exactly as the trail has it, so
that who holds the server's copy can verify the chain, and find what is missing, without this host. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime

from documents.audit import AuditRecord

PEN = "32473"
"""The private enterprise number that RFC 5612 keeps for documentation: vmgate has none of its own yet."""

FACILITY = 13
"""Log audit (RFC 5424, table 1)."""

SEVERITIES = {"done": 6, "started": 6, "failed": 4, "refused": 4}
"""Informational and warning (RFC 5424, table 2), by outcome."""

NILVALUE = "-"
LAST_TIME = 253_402_300_799
"""The last second of the year 9999, since 1970 UTC."""

MAX_MSGID, MAX_PARAM, MAX_HOSTNAME = 32, 32, 255


def encode(record: AuditRecord, hostname: str) -> bytes:
    """One message, without its frame.

    Args:
        record: as the trail has it.
        hostname: of this host; what is not printable ASCII is left out.
    """
    priority = FACILITY * 8 + SEVERITIES[record.outcome]
    host = _header(hostname, MAX_HOSTNAME)
    members = (
        ("sequence", str(record.sequence)),
        ("event", record.event),
        ("outcome", record.outcome),
        ("subject", record.subject),
        ("actor", record.actor),
        ("boot", record.boot),
        ("previous", record.previous),
        ("hash", record.hash()),
    )
    data = _element("vmgate", members) + (_element("detail", record.details) if record.details else "")
    head = f"<{priority}>1 {timestamp(record.time)} {host} vmgate {NILVALUE} {_header(record.event, MAX_MSGID)} {data} "
    return head.encode() + record.encode()


def timestamp(seconds: int) -> str:
    """A time of RFC 3339 in UTC; NILVALUE for one that has none, beyond the year 9999 (RFC 5424, 6.2.3)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds <= LAST_TIME else NILVALUE


def frame(message: bytes) -> bytes:
    """MSG-LEN SP SYSLOG-MSG (RFC 5425, 4.3)."""
    return b"%d " % len(message) + message


def _header(text: str, most: int) -> str:
    return "".join(c for c in text if "!" <= c <= "~")[:most] or NILVALUE


def _element(name: str, params: tuple[tuple[str, str], ...]) -> str:
    return f"[{name}@{PEN}" + "".join(f' {_param(key)}="{_escaped(text)}"' for key, text in params) + "]"


def _param(name: str) -> str:
    """SD-NAME: names of details are such already, and may be longer (RFC 5424, 6.3.2)."""
    return name[:MAX_PARAM]


def _escaped(text: str) -> str:
    """PARAM-VALUE: these three alone are escaped (RFC 5424, 6.3.3)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
