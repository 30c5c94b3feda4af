# SPDX-License-Identifier: Apache-2.0
"""Findings of the gate's, with texts that are safe to print. This module finds nothing."""

from __future__ import annotations

from documents.errors import VmgateError
from documents.verdict import Finding


def make_finding(
    check: str, subject: str, outcome: str, expected: str, found: str, authority: str = "publisher"
) -> Finding:
    """A finding whose texts are made printable: what a guest or a caller wrote may hold anything."""
    return Finding(
        check=check,
        subject=_text(subject, 300),
        outcome=outcome,
        expected=_text(expected),
        found=_text(found),
        authority=authority,
    )


def told(error: VmgateError) -> str:
    """An error inside a finding: without its remedy, and without what separates the parts of an error's line."""
    return f"{error.what}: {error.cause}".replace("; ", ", ")


def _text(text: str, limit: int = 500) -> str:
    printable = "".join(c if c.isprintable() and not 0x200B <= ord(c) <= 0x206F else "?" for c in text)
    return printable[:limit] or "nothing"
