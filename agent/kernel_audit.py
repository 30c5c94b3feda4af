# SPDX-License-Identifier: Apache-2.0
"""Tells the kernel's audit each verdict: auditd, or the kernel's log, then has it beside what others say there.

The record is of type VIRT_INTEGRITY_CHECK (2503, ``libaudit.h``: guest integrity results). It is a copy for who looks
there: the trail is the evidence, and a kernel without audit, or one that refuses, changes no decision. Message form:
``linux/netlink.h`` and ``linux/audit.h``; the words are ``key=value`` as the kernel's own records have them.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct

from documents.audit import AuditRecord

log = logging.getLogger(__name__)

NETLINK_AUDIT = 9
VIRT_INTEGRITY_CHECK = 2503
NLMSG_ERROR = 2
REQUEST_AND_ACK = 0x1 | 0x4
HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length with this header, type, flags, sequence, port; in the machine's byte order (netlink(7))."""

MAX_MESSAGE = 8_000
"""Bytes of a message: below MAX_AUDIT_MESSAGE_LENGTH (8,970, ``libaudit.h``)."""

MAX_CHECK = 120
"""Characters of a check's name: what is said of it may be another program's words."""

SECONDS = 1.0
"""For the kernel's answer."""

EVENTS = frozenset({"platform-appraisal", "vm-start"})
RESULTS = {"done": "success", "started": "success", "refused": "failed", "failed": "failed"}
NOBODY = frozenset({errno.EPROTONOSUPPORT, errno.ECONNREFUSED, errno.EAFNOSUPPORT})
"""What a kernel without audit, or one in a container that may not, answers."""


def is_verdict(record: AuditRecord) -> bool:
    """Whether a record says what was judged: a start that was let happen is told at its beginning, not again."""
    return record.event in EVENTS and not (record.event == "vm-start" and record.outcome in ("done", "failed"))


def encode(record: AuditRecord, sequence: int) -> bytes:
    """The netlink message of a verdict.

    Args:
        record: of the trail.
        sequence: of this message, repeated in the kernel's answer.
    """
    details = dict(record.details)
    words = [
        f"op={record.event}",
        f"vm={_word(record.subject)}" if record.event == "vm-start" else f"object={_word(record.subject)}",
        f"record={record.sequence}",
        f"verdict={_word(details.get('verdict', record.outcome))}",
    ]
    words += [f"check={_word(details['check'][:MAX_CHECK])}"] if "check" in details else []
    text = " ".join([*words, f"res={RESULTS[record.outcome]}"]).encode()[:MAX_MESSAGE] + b"\0"
    return HEADER.pack(HEADER.size + len(text), VIRT_INTEGRITY_CHECK, REQUEST_AND_ACK, sequence, 0) + text


def _word(text: str) -> str:
    """A value in quotes; in hexadecimal where it has what would end it, as audit_encode_nv_string(3) does."""
    plain = all("!" <= c <= "~" and c != '"' for c in text)
    return f'"{text}"' if plain else text.encode().hex().upper()


def answer(untrusted_message: bytes) -> int:
    """The error number in the kernel's answer; 0 for yes.

    Raises:
        ValueError: it is no answer.
    """
    if len(untrusted_message) < HEADER.size + 4:
        raise ValueError("too short")
    _, kind, _, _, _ = HEADER.unpack_from(untrusted_message)
    if kind != NLMSG_ERROR:
        raise ValueError(f"type {kind}")
    (number,) = struct.unpack_from("=i", untrusted_message, HEADER.size)
    return int(-number)


class KernelAudit:
    """Sends verdicts to this machine's kernel; its first refusal is logged, and then it is left alone."""

    def __init__(self) -> None:
        self._sequence = 0
        self.refused = ""

    def tell(self, record: AuditRecord) -> None:
        """Send a verdict, if it is one. Never raises: the trail has the record."""
        if self.refused or not is_verdict(record):
            return
        self._sequence += 1
        try:
            number = self._send(encode(record, self._sequence))
        except OSError as error:
            number = error.errno or errno.EIO
        except ValueError as error:
            log.warning("the kernel's audit gave no answer: %s", error)
            return
        if number:
            self.refused = (
                "the kernel has no audit" if number in NOBODY else f"error {errno.errorcode.get(number, number)}"
            )
            log.info("verdicts are not told to the kernel's audit: %s", self.refused)

    def _send(self, message: bytes) -> int:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT) as line:
            line.settimeout(SECONDS)
            line.sendto(message, (0, 0))
            return answer(line.recv(MAX_MESSAGE + 1_000))
