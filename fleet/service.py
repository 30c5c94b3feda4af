# SPDX-License-Identifier: Apache-2.0
"""What the service does for hosts: enrol them, hand out nonces, judge their evidence. Bytes in, documents out.

Keeps nothing of its own between two requests but what can be made again: any number of processes share one database.
Whatever is refused is recorded, as far as there is room (``fleet.trail.Sparing``). Knows no HTTP but the signatures
of requests (``keys.http_signature``).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from content import durable
from documents.enrolment import Enrolled, EnrolmentOffer, EnrolmentProof, EnrolmentRequest
from documents.errors import VmgateError
from documents.fleet_answers import Appraised, AuditReceipt, AuditUpload, NonceGrant
from documents.seen_host import SeenHost
from fleet import attestations, metrics, tokens
from fleet.attestations import Attestation
from fleet.certificates import public_pem
from fleet.database import Database
from fleet.enrolment import make_offer, verify_proof
from fleet.errors import DatabaseFailed
from fleet.hosts import refused_host
from fleet.intake import take_in
from fleet.joining import Joining, join
from fleet.minting import Mint
from fleet.references import References
from fleet.settings import FleetFolder, FleetSettings
from fleet.states import ACTIVE
from fleet.tables import hosts
from fleet.trail import Sparing, Trail
from fleet.verifier import answer_prepared
from keys.http_signature import Proven, claimed_host, verify_request
from measure.ek_roots import Roots
from measure.structures import parse_public
from measure.verifying import Known

log = logging.getLogger(__name__)

SWEEP: Final = 256
"""Requests of a process between two looks for what is too old to be kept."""

KEY_LIMIT: Final = 10_000
_COLUMNS: Final = (
    hosts.c.id, hosts.c.name, hosts.c.state, hosts.c.request_key, hosts.c.ak, hosts.c.chip, hosts.c.seen,
    hosts.c.channel, hosts.c.version,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A host whose request was proven.

    Attributes:
        row: of the host, as it was read.
        proven: what the signature says.
    """

    row: Any
    proven: Proven


class FleetService:
    """One process's service.

    Args:
        folder: of the service.
        settings: of it.
        database: of the fleet; its tables are of this version.
        clock: gives seconds since 1970 UTC.
        version: of vmgate, for results.
    """

    def __init__(
        self,
        folder: FleetFolder,
        settings: FleetSettings,
        database: Database,
        clock: Callable[[], int],
        version: str,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._database = database
        self._clock = clock
        self._version = version
        self._secret = folder.read_secret()
        self._mint = Mint(hashlib.sha256(b"vmgate nonces\0" + self._secret).digest())
        self._result_key = durable.read_file(folder.result_key, KEY_LIMIT)
        self._result_public = public_pem(self._result_key)
        self._references = References(database)
        self._trail = Trail(str(uuid.uuid4()))
        self._sparing = Sparing()
        self._handled = 0

    def require_ready(self) -> None:
        """Require that the service can do its work: a load balancer asks before it sends hosts here.

        Raises:
            DatabaseFailed: the database does not answer.
            ReferenceWrong: there is nothing to compare hosts with.
        """
        self._references.of(self._settings.channel)

    def metrics(self) -> bytes:
        """Numbers of the fleet, see ``fleet.metrics``."""
        with self._database.read() as connection:
            return metrics.told(connection, self._version, self._clock())

    def offer(self, untrusted_body: bytes) -> EnrolmentOffer:
        """Ask a host that wants to join to prove who it is.

        Raises:
            VmgateError: its token or its certificates do not count.
        """
        request, now = EnrolmentRequest.parse(untrusted_body), self._clock()
        with self._database.read() as connection:
            # A used one may still be that of a host that did not hear the answer; the proof decides.
            if not tokens.may_count(connection, request.token, now):
                raise tokens.refused("the token is unknown, withdrawn or too old")
        return make_offer(
            request,
            Roots.load(self._folder.roots),
            self._secret,
            fleet=self._settings.name,
            random=secrets.token_bytes(16),
            time=now,
        )

    def enrol(self, untrusted_body: bytes) -> Enrolled:
        """Take a host in that proves who it is.

        Raises:
            VmgateError: it does not, or its token does not count.
        """
        proof, now = EnrolmentProof.parse(untrusted_body), self._clock()
        newcomer = verify_proof(proof, Roots.load(self._folder.roots), self._secret, now)
        joining = Joining(
            newcomer=newcomer,
            token=proof.token,
            proof=hashlib.sha256(newcomer.ek.encode() + newcomer.ak + newcomer.key).hexdigest(),
            new_id=str(uuid.uuid4()),
            approval=self._settings.approval,
            now=now,
        )
        row = self._database.write(lambda connection: join(connection, joining, self._trail))
        return self._enrolled(row)

    def nonce(self, host: str) -> NonceGrant:
        """Something to answer. Anybody may ask: it costs nothing, and only the host can use it."""
        now = self._clock()
        return NonceGrant(nonce=self._mint.issue(host, now), time=now)

    def prove(self, method: str, target: str, untrusted_headers: Mapping[str, str], host: str) -> Asking:
        """Verify the head of a request, before its body is read.

        Args:
            method: of the request.
            target: path and query.
            untrusted_headers: by lower-case name.
            host: that the path names.

        Raises:
            RequestUnproven: the signature does not hold.
            NonceRefused: its nonce does not count.
            HostRefused: no such host, or it was revoked.
        """
        now = self._clock()
        if claimed_host(untrusted_headers) != host:
            raise refused_host("the request is about another host than that which signed it")
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(hosts.c.id == host)).one_or_none()
            if row is None or row.state == "revoked":
                raise refused_host("the fleet knows no active host of that id and key")
            proven = verify_request(method, target, untrusted_headers, _key(row.request_key), now)
            attestations.require_fresh(connection, self._mint.check(host, proven.nonce, now))
        return Asking(row=row, proven=proven)

    def membership(self, asking: Asking, untrusted_body: bytes) -> Enrolled:
        """A host's place in the fleet, as it is now.

        Raises:
            VmgateError: the request does not count.
        """
        asking.proven.verify_body(untrusted_body)
        answered = self._mint.check(asking.row.id, asking.proven.nonce, self._clock())
        self._database.write(lambda connection: attestations.spend(connection, answered))
        return self._enrolled(asking.row)

    def attest(self, asking: Asking, untrusted_evidence: bytes) -> Appraised:
        """Judge a host's evidence, and keep what came of it.

        Raises:
            VmgateError: the request does not count, or nothing could be kept. A host that is not trusted is no error.
        """
        asking.proven.verify_body(untrusted_evidence)
        row, now = _active(asking.row), self._clock()
        answered = self._mint.check(row.id, asking.proven.nonce, now)
        prepared = self._references.of(row.channel)
        before = SeenHost.parse(row.seen) if row.seen else None
        known = Known(ak=row.ak, nonce=asking.proven.nonce, chip=row.chip, before=before)
        answer = answer_prepared(
            untrusted_evidence,
            prepared.references,
            known,
            now,
            terms=prepared.terms,
            build=self._version,
            private_pem=self._result_key,
        )
        attestation = Attestation(
            host=row.id,
            version=row.version,
            answered=answered,
            judged=answer.judged,
            result=answer.token,
            now=now,
        )
        self._database.write(lambda connection: attestations.keep(connection, attestation, self._trail))
        self._sweep(row.id, now)
        return Appraised(
            status=attestation.status,
            level=answer.judged.verdict.level,
            time=answer.judged.verdict.time,
            expires=attestation.expires,
            result=answer.token,
        )

    def take_audit(self, asking: Asking, untrusted_body: bytes) -> AuditReceipt:
        """Take in records of a host's audit trail, as far as they follow what is there.

        Raises:
            VmgateError: the request does not count, or the records do not follow; of that an alarm is kept.
        """
        asking.proven.verify_body(untrusted_body)
        row, now = _active(asking.row), self._clock()
        answered = self._mint.check(row.id, asking.proven.nonce, now)
        upload = AuditUpload.parse(untrusted_body)
        outcome = self._database.write(
            lambda connection: take_in(connection, row.id, upload, answered, self._trail, now)
        )
        if outcome.refusal is not None:
            raise outcome.refusal
        return outcome.receipt

    def refused(self, error: VmgateError, actor: str) -> None:
        """Record that something was refused; where the database does not answer, the log must do."""
        now = self._clock()
        log.info("refused: %s: %s", actor, error.line())
        left_out = self._sparing.take(error.code, now)
        if left_out is None or isinstance(error, DatabaseFailed):
            return
        try:
            self._database.write(
                lambda connection: self._trail.write(
                    connection, now, "request-refused", "refused", subject="fleet", actor=actor,
                    code=error.code, cause=error.cause, left_out=str(left_out),
                )
            )  # fmt: skip
        except DatabaseFailed as failure:
            log.warning("a refusal was not recorded: %s", failure)

    def _enrolled(self, row: Any) -> Enrolled:
        return Enrolled(
            fleet=self._settings.name,
            host=row.id,
            name=row.name,
            state=row.state,
            result_key=self._result_public,
            interval=self._settings.interval,
        )

    def _sweep(self, host: str, now: int) -> None:
        """Every now and then drop what is too old; that it fails costs no host its verdict."""
        self._handled += 1
        if self._handled % SWEEP:
            return
        try:
            self._database.write(lambda connection: attestations.sweep(connection, now))
            self._database.write(lambda connection: attestations.prune(connection, host))
        except DatabaseFailed as error:
            log.warning("what is too old was not dropped: %s", error)


def _active(row: Any) -> Any:
    if row.state != ACTIVE:
        raise refused_host("it waits for an administrator's approval")
    return row


@lru_cache(maxsize=16_384)
def _key(request_key: bytes) -> ec.EllipticCurvePublicKey:
    """A host's request key: it was found to be of this kind when the host was enrolled."""
    key = parse_public(request_key).key
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise refused_host("its request key is of another kind")
    return key
