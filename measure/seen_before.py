# SPDX-License-Identifier: Apache-2.0
"""Whether evidence can follow from what the same host showed before: counters that only grow, logs that only grow.

A discrete TPM can be reset apart from its host and be told the old log once more. Its reset counter shows that, to who
remembers: after a reset the logs must be those of another boot. vmgate's own log names its boot
(``measure.local.BOOT``), so that no two boots have the same. This module does not verify evidence and keeps nothing.

Source: TPM 2.0 Library Part 1, clause 36 (clock, resetCount, restartCount).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from documents.evidence import Evidence
from documents.seen_host import SeenHost
from documents.verdict import Finding
from measure.findings import compare, finding
from measure.quote import Quote

SUBJECT = "pcr/0-13"


def continuity_findings(evidence: Evidence, quote: Quote, nonce: bytes, before: SeenHost) -> Iterator[Finding]:
    """Compare verified evidence with what was seen before.

    Args:
        evidence: as it was sent.
        quote: what it proves.
        nonce: that it answers.
        before: of the same host.
    """
    yield compare("attestation-key", "the host seen before", before.ak, sha256(evidence.ak), authority="local")
    fresh = sha256(nonce) != before.nonce
    expected = "a nonce that was not answered before"
    yield _finding("nonce", "evidence", expected, expected if fresh else "the nonce of the evidence before", good=fresh)
    yield _counters(quote, before)
    begins = sha256(evidence.cel[: before.cel_length]) == before.cel
    if quote.reset_count == before.reset_count:
        good = begins and sha256(evidence.boot_log) == before.boot_log
        found = "those of before and more" if good else "others, or less than before"
        yield _finding("earlier-log", SUBJECT, "the logs of before, and what came since", found, good=good)
    elif quote.reset_count > before.reset_count:
        good = not (begins and before.cel_length)
        found = "those of another boot" if good else "those of the boot before, told once more"
        yield _finding("earlier-log", SUBJECT, "logs of a boot that came after the reset", found, good=good)


def seen(evidence: Evidence, quote: Quote, nonce: bytes, platform: int, before: SeenHost | None) -> SeenHost:
    """What to keep of a host whose evidence was found good.

    Args:
        evidence: as it was sent.
        quote: what it proves.
        nonce: that it answers.
        platform: number of the release that it matched.
        before: what was kept so far.
    """
    return SeenHost(
        ak=sha256(evidence.ak),
        nonce=sha256(nonce),
        platform=max(platform, before.platform if before else platform),
        clock=quote.clock,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        boot_log=sha256(evidence.boot_log),
        cel=sha256(evidence.cel),
        cel_length=len(evidence.cel),
    )


def sha256(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _counters(quote: Quote, before: SeenHost) -> Finding:
    now = (quote.reset_count, quote.restart_count, quote.clock)
    then = (before.reset_count, before.restart_count, before.clock)
    # A TPM that lost power unorderly may tell an earlier clock than it told before, and says so.
    good = now[:2] >= then[:2] and (quote.clock >= before.clock or not quote.safe)
    expected = f"at least {then[0]} resets, {then[1]} restarts, clock {then[2]}"
    return _finding("reset-count", "tpm", expected, f"{now[0]} resets, {now[1]} restarts, clock {now[2]}", good=good)


def _finding(check: str, subject: str, expected: str, found: str, *, good: bool) -> Finding:
    return finding(check, subject, expected, found, good=good, authority="local")
