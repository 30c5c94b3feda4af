# SPDX-License-Identifier: Apache-2.0
"""From evidence to a verdict: the one pure function for whoever judges a host from outside.

Evidence, reference values, policy and time in; a verdict out, with every check that was made. What evidence holds never
raises: evidence that proves nothing gives a verdict with the one check that failed, and the error for people beside it.

 1. the evidence is a document, of the expected key, and its quote and logs hold together (``measure.appraise.prove``);
 2. it can follow from what the host showed before, where that is known (``measure.seen_before``);
 3. the reference values may still be used;
 4. for each platform release that was given, with its own policy and host image: the evidence holds no more than that
    policy asks for, and the appraisal (``measure.appraise``); the release is one of those that count now
    (``measure.valid_releases``). A release is matched as a whole; nothing is taken from two.
 5. the verdict is the best of them: the one with the fewest failures, the newest of several.

Left to the caller: that releases are the publisher's, that the key is the host's, and that the nonce is fresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from documents.errors import DocumentError, VmgateError
from documents.evidence import Evidence
from documents.seen_host import SeenHost
from documents.verdict import Finding, Verdict
from measure.appraise import Reference, appraise, prove
from measure.errors import QuoteRefused
from measure.findings import finding
from measure.seen_before import continuity_findings, seen
from measure.valid_releases import Terms, Valid, valid_releases

NO_REMEDY = "see the findings in the result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a verifier knows of a host before it looks at evidence.

    Attributes:
        ak: TPMT_PUBLIC of its attestation key.
        nonce: what it was asked with.
        chip: whether its TPM was found to be a chip when it was enrolled.
        before: as it was last seen; None where nothing is kept.
    """

    ak: bytes
    nonce: bytes
    chip: bool = False
    before: SeenHost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What came of it.

    Attributes:
        verdict: all checks.
        refusal: why the evidence proves nothing; None where it was appraised.
        release: the platform release that the verdict is by, such as ``platform/3``; empty where none was.
        seen: what to keep of the host; None unless it is trusted.
    """

    verdict: Verdict
    refusal: VmgateError | None = None
    release: str = ""
    seen: SeenHost | None = None

    def require_trusted(self, now: int) -> None:
        """Return if the host may be trusted.

        Raises:
            VmgateError: why the evidence proves nothing.
            NotTrusted: a check failed, or the verdict is of another time.
        """
        if self.refusal is not None:
            raise self.refusal
        self.verdict.require_trusted(NO_REMEDY, now)


def judge(
    untrusted_evidence: bytes,
    references: tuple[Reference, ...],
    known: Known,
    time: int,
    *,
    terms: Terms | None = None,
    expires: int | None = None,
) -> Judged:
    """Judge evidence; see above.

    Args:
        untrusted_evidence: one Evidence document.
        references: one for each platform release, all of one channel, each verified.
        known: of the host.
        time: seconds since 1970 UTC.
        terms: when the older of several releases count; none of them does without.
        expires: when the reference values must no longer be used; None where nobody said.
    """
    # 1.
    try:
        evidence = Evidence.parse(untrusted_evidence)
    except DocumentError as error:
        return _stopped("evidence-form", "a document of evidence", error, time)
    try:
        # Entries of any image that was given are known alike: what they say is judged later, by each image.
        entries = next((reference.known.entries for reference in references if reference.known), None)
        claims, quote = prove(evidence, known.ak, known.nonce, chip=known.chip, known=entries)
    except QuoteRefused as error:
        if evidence.ak != known.ak:
            return _stopped("attestation-key", "the key that the host is known by", error, time)
        return _stopped("quote", "a quote of the host's key that answers the nonce and fits the logs", error, time)
    except VmgateError as error:
        return _stopped("evidence-logs", "logs that explain the quote", error, time)
    if not references:
        none = finding("reference", "platform", "reference values of a platform release", "none", good=False)
        return Judged(verdict=Verdict(subject="platform", level="L0", time=time, findings=(none,)))
    # 2.
    shared = tuple(continuity_findings(evidence, quote, known.nonce, known.before)) if known.before else ()
    # 3.
    shared += tuple(_references(expires, time))
    # 4.
    terms = replace(terms or Terms(), seen=known.before.platform if known.before else 0)
    valid = valid_releases((reference.platform for reference in references), terms, time)
    verdicts: list[tuple[Verdict, int]] = []
    for reference in references:
        more = (*_asked(evidence, reference), _valid(reference, valid))
        verdict = appraise(claims, replace(reference, refused=(*reference.refused, *valid.refused)), time)
        until = verdict.expires if expires is None else max(1, min(verdict.expires, expires))
        findings = (*verdict.findings, *shared, *more)
        verdicts.append((replace(verdict, findings=findings, expires=until), reference.platform.number))
    # 5.
    best, number = min(verdicts, key=lambda each: (len(each[0].failures()), -each[1]))
    kept = None if best.failures() else seen(evidence, quote, known.nonce, number, known.before)
    return Judged(verdict=best, release=f"{references[0].platform.channel}/{number}", seen=kept)


def _stopped(check: str, expected: str, error: VmgateError, time: int) -> Judged:
    found = Finding(check=check, subject="evidence", outcome="fail", expected=expected, found=told(error))
    return Judged(verdict=Verdict(subject="platform", level="L0", time=time, findings=(found,)), refusal=error)


def told(error: VmgateError) -> str:
    """Why, as a finding's text: a cause may hold the words of others."""
    printable = "".join(c if c.isprintable() and not 0x200B <= ord(c) <= 0x206F else "?" for c in error.cause)
    return printable[:500]


def _references(expires: int | None, time: int) -> Iterator[Finding]:
    if expires is not None:
        expected = f"used before {expires} (seconds since 1970 UTC)"
        yield finding("reference-expiry", "reference values", expected, str(time), good=time < expires)


def _asked(evidence: Evidence, reference: Reference) -> Iterator[Finding]:
    asked = reference.policy.collects(host_image=bool(reference.platform.of_kind("host-image")))
    sent = {"boot_log": evidence.boot_log, "ima": evidence.ima, "command_line": evidence.command_line}
    more = [name for name, data in sent.items() if data and name not in asked]
    expected = "no more than the security policy asks for"
    yield finding("evidence-asked", "evidence", expected, " and ".join(more) if more else expected, good=not more)


def _valid(reference: Reference, valid: Valid) -> Finding:
    platform = reference.platform
    label = f"{platform.channel}/{platform.number}"
    expected = " or ".join(f"{platform.channel}/{number}" for number in valid.numbers)
    return finding(
        "release-valid", label, f"{expected} (state: {valid.state})", label, good=platform.number in valid.numbers
    )
