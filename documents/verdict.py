# SPDX-License-Identifier: Apache-2.0
"""The outcome of an appraisal: findings, one a check, and what follows from them.

A verdict is built from findings only; nobody sets "trusted". ``require_trusted`` is the only way on. This module does
not appraise (``measure.appraise`` does), and has no clock: who relies on a verdict says when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.errors import Exit, VmgateError
from documents.fields import SLASHED, Fields

OUTCOMES = ("pass", "warn", "fail")
LEVELS = ("L0", "L1", "L2")
AUTHORITIES = ("publisher", "site", "local", "none")
KEPT = ("fs-verity", "dm-verity", "root-only store", "nothing")
"""What keeps a file's digest true from its measurement to its use: the kernel checks each read against the tree of the
file or of its device; only root can change or exchange it; anybody may."""
TAKEN = ("kernel", "memory")
"""Where a digest comes from that was not just read: the kernel's word on fs-verity, or a reading in this boot."""

VERDICT_SECONDS = 3_600
"""For how long a verdict may be relied on where no policy says how long."""


class NotTrusted(VmgateError):
    """The appraisal found something that is not what its publisher signed."""

    code = "DC010"
    exit = Exit.REFUSED
    explanation = (
        "Something that must be what its publisher signed is not, or could not be checked. "
        "`vmgate vm why NAME` lists each check with what was expected and found, and the way out that applies."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, verdict: Verdict) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.verdict = verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was checked, such as ``component-digest``.
        subject: of what, such as ``vmm/firmware-code``.
        outcome: ``pass``; ``warn``: weaker than the best, accepted by name; ``fail``.
        expected: as text.
        found: as text.
        authority: whose word the expectation is.
        kept: one of ``KEPT`` where a file was measured; empty where there is nothing to keep.
        taken: one of ``TAKEN``; empty where all of the file was read just now, or there is no file.
    """

    check: str
    subject: str
    outcome: str
    expected: str
    found: str
    authority: str = "publisher"
    kept: str = ""
    taken: str = ""

    @classmethod
    def read(cls, untrusted: Json) -> Finding:
        """Read one finding."""
        fields = Fields(untrusted, "finding")
        finding = cls(
            check=fields.take_text("check", SLASHED, 120),
            subject=fields.take_text("subject", limit=300),
            outcome=fields.take_choice("outcome", OUTCOMES),
            expected=fields.take_text("expected", limit=500, empty=True),
            found=fields.take_text("found", limit=500, empty=True),
            authority=fields.take_choice("authority", AUTHORITIES),
            kept=fields.take_choice("kept", KEPT) if fields.has("kept") else "",
            taken=fields.take_choice("taken", TAKEN) if fields.has("taken") else "",
        )
        fields.finish()
        return finding

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "check": self.check,
            "subject": self.subject,
            "outcome": self.outcome,
            "expected": self.expected,
            "found": self.found,
            "authority": self.authority,
            **({"kept": self.kept} if self.kept else {}),
            **({"taken": self.taken} if self.taken else {}),
        }

    def sentence(self) -> str:
        """The finding in one line."""
        return f"{self.check} of {self.subject}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Document):
    """All findings about one subject at one time.

    Attributes:
        subject: ``platform`` or a VM's name.
        level: assurance level: ``L0`` software TPM, ``L1`` self-measured, ``L2`` verified before it ran.
        time: seconds since 1970 UTC.
        findings: in the order of the checks. None at all means not trusted.
        expires: when it must no longer be relied on, in seconds since 1970 UTC; 0, and then absent:
            ``VERDICT_SECONDS`` after its time.
    """

    TYPE: ClassVar[str] = "vmgate.verdict"
    LIMIT: ClassVar[int] = 2_000_000

    subject: str
    level: str
    time: int
    findings: tuple[Finding, ...]
    expires: int = 0

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``. The status is read only to be compared with the findings."""
        verdict = cls(
            subject=fields.take_text("subject", limit=120),
            level=fields.take_choice("level", LEVELS),
            time=fields.take_int("time", 0, 2**40),
            findings=fields.take_list("findings", Finding.read, 10_000),
            expires=fields.take_int("expires", 1, 2**41) if fields.has("expires") else 0,
        )
        if fields.take("status") != verdict.status:
            raise fields.wrong("status", "does not follow from the findings")
        return verdict

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "subject": self.subject,
            "level": self.level,
            "time": self.time,
            "status": self.status,
            "findings": [finding.members() for finding in self.findings],
            **({"expires": self.expires} if self.expires else {}),
        }

    @property
    def status(self) -> str:
        """``affirming``, ``warning`` or ``contraindicated`` (the tiers of EAR)."""
        outcomes = {finding.outcome for finding in self.findings}
        if not outcomes or "fail" in outcomes:
            return "contraindicated"
        return "warning" if "warn" in outcomes or self.level != "L2" else "affirming"

    def failures(self) -> tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.outcome == "fail")

    def is_current(self, now: int) -> bool:
        """Whether it is of this time: not of the future, and not expired.

        Args:
            now: seconds since 1970 UTC.
        """
        return self.time <= now < (self.expires or self.time + VERDICT_SECONDS)

    def require_trusted(self, remedy: str, now: int | None = None) -> None:
        """Return if every check let the subject pass, and the verdict is of this time.

        Args:
            remedy: what the reader can do, for the error.
            now: when the verdict is relied on, in seconds since 1970 UTC; None only for one that was made in the same
                step, which has no age.

        Raises:
            NotTrusted: at least one finding failed, or there is none; or the verdict is not of this time.
        """
        if self.status != "contraindicated":
            self._require_current(now)
            return
        failures = self.failures()
        cause = failures[0].sentence() if failures else "nothing was checked"
        if len(failures) > 1:
            cause += f" (and {len(failures) - 1} more)"
        raise NotTrusted(f"{self.subject} is not trusted", cause=cause, remedy=remedy, verdict=self)

    def _require_current(self, now: int | None) -> None:
        if now is not None and not self.is_current(now):
            cause = f"the verdict is of another time: made at {self.time}, and now is {now} (seconds since 1970 UTC)"
            anew = "have it judged anew"
            raise NotTrusted(f"{self.subject} is not trusted", cause=cause, remedy=anew, verdict=self)
