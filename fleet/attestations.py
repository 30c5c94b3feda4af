# SPDX-License-Identifier: Apache-2.0
"""What comes of one host's evidence, in the database: nonce spent, verdict kept, host brought up to date, or nothing.

All of it is one transaction. A nonce that is spent belongs to a verdict that is kept; a failure anywhere leaves the
host as it was, and what it was expires by itself. This module judges nothing (``fleet.verifier`` does).
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from documents.canonical import Json, decode, encode
from documents.verdict import VERDICT_SECONDS, Verdict
from fleet import minting
from fleet.errors import Crowded
from fleet.hosts import require_active
from fleet.minting import Answered
from fleet.tables import findings, hosts, nonces, verdicts
from fleet.trail import Trail
from measure.trust_vector import VERIFIER
from measure.verifying import Judged

KEPT: Final = 500
"""Verdicts that are kept of each host: with one in five minutes, those of some two days, and older changes."""

_BODY_LIMIT: Final = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One appraisal that is to count.

    Attributes:
        host: id.
        version: of the host's row on which the appraisal rests.
        answered: the nonce.
        judged: what came of the evidence.
        result: the EAR as a signed JWT.
        now: seconds since 1970 UTC.
    """

    host: str
    version: int
    answered: Answered
    judged: Judged
    result: str
    now: int

    @property
    def status(self) -> str:
        """The status as the EAR has it."""
        verdict = self.judged.verdict
        failed = any(finding.check == VERIFIER for finding in verdict.failures())
        return "none" if failed else verdict.status

    @property
    def expires(self) -> int:
        """When the verdict must no longer be relied on."""
        return self.judged.verdict.expires or self.judged.verdict.time + VERDICT_SECONDS


def require_fresh(connection: Connection, answered: Answered) -> None:
    """Require that a nonce was not answered: a first look, which saves the work of judging. ``keep`` decides.

    Raises:
        NonceRefused: it was.
    """
    if connection.execute(select(nonces.c.head).where(nonces.c.head == answered.head)).first() is not None:
        raise minting.refused("it was answered before")


def spend(connection: Connection, answered: Answered) -> None:
    """Let a nonce be answered, and never again, in the transaction of what it is answered with.

    Raises:
        NonceRefused: it was answered before.
    """
    try:
        with connection.begin_nested():
            connection.execute(insert(nonces).values(head=answered.head, expires=answered.expires))
    except IntegrityError as error:
        raise minting.refused("it was answered before") from error


def sweep(connection: Connection, now: int) -> int:
    """Forget nonces that are too old to be answered, and findings of no verdict; returns how many nonces went."""
    gone = connection.execute(delete(nonces).where(nonces.c.expires <= now)).rowcount
    used = select(verdicts.c.findings)
    connection.execute(delete(findings).where(findings.c.digest.not_in(used)))
    return int(gone)


def keep(connection: Connection, attestation: Attestation, trail: Trail) -> None:
    """Keep a verdict, with all that goes with it.

    Raises:
        NonceRefused: the nonce was answered before.
        HostRefused: the host is no longer active.
        Crowded: the host changed since its row was read.
    """
    spend(connection, attestation.answered)
    row = require_active(connection, attestation.host)
    if row.version != attestation.version:
        raise Crowded("the verdict was not kept", cause="the host changed while it was judged", remedy="attest again")
    verdict, judged, now = attestation.judged.verdict, attestation.judged, attestation.now
    body = encode({"findings": [finding.members() for finding in verdict.findings]})
    digest = hashlib.sha256(body).hexdigest()
    if connection.execute(select(findings.c.digest).where(findings.c.digest == digest)).first() is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(findings).values(digest=digest, body=zlib.compress(body)))
        except IntegrityError:  # another process was quicker with the same
            pass
    connection.execute(
        insert(verdicts).values(
            host=row.id,
            time=verdict.time,
            expires=attestation.expires,
            status=attestation.status,
            level=verdict.level,
            release=judged.release,
            nonce=hashlib.sha256(attestation.answered.head).hexdigest(),
            findings=digest,
        )
    )
    cause = cause_of(verdict)
    values = {
        "contact": now,
        "version": row.version + 1,
        "status": attestation.status,
        "level": verdict.level,
        "judged": verdict.time,
        "expires": attestation.expires,
        "release": judged.release,
        "cause": cause,
        "result": attestation.result,
    }
    # A host is compared with what it was when it was last found good.
    if judged.seen is not None:
        values["seen"] = judged.seen.encode()
    connection.execute(update(hosts).where(hosts.c.id == row.id).values(values))
    if row.status != attestation.status:
        outcome = "done" if attestation.status in ("affirming", "warning") else "refused"
        trail.write(
            connection, now, "host-verdict", outcome, subject=row.name, actor=f"host {row.id}",
            before=row.status or "none", status=attestation.status, level=verdict.level, cause=cause,
        )  # fmt: skip


def prune(connection: Connection, host: str) -> None:
    """Forget a host's verdicts beyond the newest ``KEPT``."""
    query = select(verdicts.c.number).where(verdicts.c.host == host).order_by(verdicts.c.number.desc())
    oldest = connection.execute(query.offset(KEPT).limit(1)).scalar_one_or_none()
    if oldest is not None:
        connection.execute(delete(verdicts).where(verdicts.c.host == host, verdicts.c.number <= oldest))


def cause_of(verdict: Verdict) -> str:
    """Why a verdict is no better, in one line; empty where nothing failed."""
    failures = verdict.failures()
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return (failures[0].sentence()[:560] + more) if failures else ""


def found_by(connection: Connection, digest: str) -> list[Json]:
    """What a verdict found, one check each."""
    body: Any = connection.execute(select(findings.c.body).where(findings.c.digest == digest)).scalar_one()
    listed = decode(zlib.decompress(body), _BODY_LIMIT)["findings"]
    return listed if isinstance(listed, list) else []


def count(connection: Connection) -> int:
    """How many verdicts are kept."""
    return connection.execute(select(func.count()).select_from(verdicts)).scalar_one()
