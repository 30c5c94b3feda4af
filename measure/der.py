# SPDX-License-Identifier: Apache-2.0
"""Distinguished encoding rules (DER), just enough of them to find the parts of a certificate, each in its own bytes.

Source: ITU-T X.690, clauses 8 and 10. Tags of one byte, definite lengths of at most four bytes in their shortest form.
Nothing is decoded into a model and nothing is encoded again: a signature is checked over bytes as they came.

This module does not care whether a SET is sorted or an INTEGER shortest, since vendors do not either; it knows no types
besides object identifiers, and no certificate. The depth is the caller's: it walks level by level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from measure.errors import CertificateMalformed

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31

PARTS: Final = 64
"""Most elements on one level."""


def context(number: int, *, constructed: bool = True) -> int:
    """The tag of a context-specific element."""
    return 0x80 | (0x20 if constructed else 0) | number


def malformed(cause: str, reason: str = "der") -> CertificateMalformed:
    """The error for bytes that are no certificate; see ``CertificateMalformed`` for the reasons."""
    return CertificateMalformed(
        "the certificate was not read", cause=cause, remedy="take it anew from its TPM or its vendor", reason=reason
    )


@dataclass(frozen=True, slots=True)
class Element:
    """One element.

    Attributes:
        tag: identifier octet.
        raw: all of its bytes, as they came.
        body: its content.
    """

    tag: int
    raw: bytes
    body: bytes

    def parts(self, *tags: int) -> tuple[Element, ...]:
        """What a constructed element consists of; the first ones must have these tags."""
        return split(self.body, *tags)


def first(untrusted: bytes) -> Element:
    """The element with which bytes begin; what follows it is not looked at.

    Raises:
        CertificateMalformed: the bytes begin with none, or end before it does (reason ``truncated``).
    """
    if len(untrusted) < 2:
        raise malformed("it ends too early", "truncated")
    tag, length, start = untrusted[0], untrusted[1], 2
    if tag & 0x1F == 0x1F:
        raise malformed(f"it has a tag of several bytes that begins with {tag:#04x}")
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise malformed("it has a length that is not definite, or of more than four bytes")
        if len(untrusted) < 2 + size:
            raise malformed("it ends too early", "truncated")
        length, start = int.from_bytes(untrusted[2 : 2 + size], "big"), 2 + size
        if length < 0x80 or length < 1 << 8 * (size - 1):
            raise malformed("it has a length that is not in its shortest form")
    end = start + length
    if end > len(untrusted):
        raise malformed("it ends too early", "truncated")
    return Element(tag, untrusted[:end], untrusted[start:end])


def split(untrusted: bytes, *tags: int) -> tuple[Element, ...]:
    """The elements that bytes consist of, at most ``PARTS``; the first ones must have these tags.

    Raises:
        CertificateMalformed: they are no sequence of elements, too many, too few, or of other tags.
    """
    found: list[Element] = []
    at = 0
    while at < len(untrusted):
        if len(found) == PARTS:
            raise malformed(f"it has more than {PARTS} parts on one level")
        element = first(untrusted[at:])
        found.append(element)
        at += len(element.raw)
    if tuple(element.tag for element in found[: len(tags)]) != tags:
        raise malformed("a part of it is missing, or of another type")
    return tuple(found)


def oid(dotted: str) -> bytes:
    """The content of an OBJECT IDENTIFIER (X.690, 8.19). Those that are met are compared, never decoded."""
    one, two, *rest = map(int, dotted.split("."))
    return b"".join(_base128(number) for number in (one * 40 + two, *rest))


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))
