# SPDX-License-Identifier: Apache-2.0
"""Judging a host from outside: evidence in, a verdict and its EAR out.

Needs no TPM, no libvirt and nothing of the host's but the evidence. The judging is ``measure.verifying``, and in it the
same appraisal that the host's own gate uses. Whatever goes wrong, the answer is no: ``answer`` catches what nobody
foresaw, too. This module does not fetch releases and does not keep results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from content.fsverity import digest_bytes
from documents.errors import VmgateError
from documents.host_files import HostFiles
from documents.host_image import HostImage
from documents.release import Artifact, Release
from documents.security_policy import SecurityPolicy
from documents.site_baseline import SiteBaseline
from documents.verdict import Finding, Verdict
from fleet.errors import VerifierFailed, VerifierUnready
from fleet.nonces import Spends
from keys.anchor import TrustAnchor
from measure.appraise import IMAGE, LIBVIRT_FILES, POLICY, SITE_BASELINE, Reference
from measure.corim import Environment
from measure.ear import ear_claims, sign_ear
from measure.known_image import KnownImage
from measure.trust_vector import VERIFIER
from measure.valid_releases import Terms
from measure.verifying import Judged, Known, judge

T = TypeVar("T")

NOTHING_ALLOWED = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)


ANY_TIME = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a host is compared with, as bytes, all of it as the verifier trusts it.

    Attributes:
        releases: the releases that the host should run, at least one of them a platform's. Of several of one workload
            channel the newest counts that the platform goes with, and the others explain VMs that still run. Of several
            platform releases ``terms`` says which count.
        anchor: root metadata of the repository; None takes the repository's identity from the release.
        policy: the platform release's security policy; None stands for one that allows nothing.
        image: the platform release's host image; needed where it has one.
        packages: the platform release's list of files of libvirt's packages; needed where it has one.
        policies: more security policies, of the other platform releases.
        images: more host images, of the other platform releases.
        listings: more lists of libvirt's files, of the other platform releases.
        baselines: the platform releases' baselines for all hosts, where they have one.
        endorsed: reference values of a CoRIM that the verifier trusts; each platform release must have the same there.
        terms: when platform releases before the newest count.
        expires: when all of this must no longer be used, in seconds since 1970 UTC; None where nobody said.
    """

    releases: tuple[bytes, ...]
    anchor: bytes | None
    policy: bytes | None
    image: bytes | None = None
    packages: bytes | None = None
    policies: tuple[bytes, ...] = ()
    images: tuple[bytes, ...] = ()
    listings: tuple[bytes, ...] = ()
    baselines: tuple[bytes, ...] = ()
    endorsed: tuple[Environment, ...] | None = None
    terms: Terms = ANY_TIME
    expires: int | None = None

    def references(self) -> tuple[Reference, ...]:
        """One set of reference values for each platform release, as a whole.

        Raises:
            VerifierUnready: no platform release, or some of different channels, or one number twice.
            DocumentError: malformed release, policy or host image.
        """
        parsed = [Release.parse(release) for release in self.releases]
        platforms = [release for release in parsed if release.authority == "platform"]
        channels, numbers = {p.channel for p in platforms}, [p.number for p in platforms]
        if len(channels) != 1 or len(set(numbers)) != len(numbers):
            raise VerifierUnready(
                "nothing was verified",
                cause=f"{len(platforms)} platform releases of {len(channels)} channels were given"
                + (", one of them twice" if len(set(numbers)) != len(numbers) else ""),
                remedy="give one with --release, or several of one channel",
            )
        workloads = sorted((r for r in parsed if r.authority == "workload"), key=lambda release: release.number)
        given = [policy for policy in (self.policy, *self.policies) if policy is not None]
        policies = {digest_bytes(policy): SecurityPolicy.parse(policy) for policy in given}
        shown = [image for image in (self.image, *self.images) if image is not None]
        images = {digest_bytes(image): KnownImage(HostImage.parse(image)) for image in shown}
        told = [listing for listing in (self.packages, *self.listings) if listing is not None]
        listings = {digest_bytes(listing): HostFiles.parse(listing) for listing in told}
        baselines = {digest_bytes(baseline): SiteBaseline.parse(baseline) for baseline in self.baselines}
        newest = {release.channel: release for release in workloads}
        gone = tuple(digest for release in newest.values() for digest in release.refused)
        references: list[Reference] = []
        for platform in platforms:
            known = _of(platform.artifact(IMAGE), images, len(platforms))
            active = newest if platform.number == max(numbers) else _accepting(workloads, platform)
            references.append(
                Reference(
                    identity=_identity(self.anchor, platform),
                    platform=platform,
                    workloads=tuple(active.values()),
                    earlier=tuple(r for r in workloads if r.number < active[r.channel].number),
                    policy=_of(platform.artifact(POLICY), policies, len(platforms)) or NOTHING_ALLOWED,
                    image=known.image if known else None,
                    known=known,
                    packages=_of(platform.artifact(LIBVIRT_FILES), listings, len(platforms)),
                    site=_of(platform.artifact(SITE_BASELINE), baselines, len(platforms)),
                    endorsed=self.endorsed,
                    refused=gone,
                )
            )
        return tuple(references)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verifier says.

    Attributes:
        judged: what came of the evidence.
        claims: the EAR; empty where not even that could be made.
        token: the EAR as a signed JWT; empty without a key.
    """

    judged: Judged
    claims: dict[str, Any]
    token: str = ""


def verify_evidence(
    untrusted_evidence: bytes, expected: Expected, *, ak: bytes, nonce: bytes, time: int, chip: bool = False
) -> Verdict:
    """Judge evidence that proves something, and return the verdict.

    Args:
        untrusted_evidence: one Evidence document.
        expected: what it is compared with.
        ak: TPMT_PUBLIC of the host's attestation key, as enrolled.
        nonce: what the verifier sent, at least 16 bytes.
        time: seconds since 1970 UTC.
        chip: whether the enrolment showed the key to be a TPM chip's.

    Raises:
        VerifierUnready: see ``Expected.references``.
        QuoteRefused: the quote does not prove anything.
        LogRefused: the logs do not explain the quote.
        DocumentError: malformed evidence or release.
    """
    references = expected.references()
    return verify_prepared(
        untrusted_evidence,
        references,
        ak=ak,
        nonce=nonce,
        time=time,
        chip=chip,
        terms=expected.terms,
        expires=expected.expires,
    )


def verify_prepared(
    untrusted_evidence: bytes,
    references: tuple[Reference, ...],
    *,
    ak: bytes,
    nonce: bytes,
    time: int,
    chip: bool = False,
    terms: Terms = ANY_TIME,
    expires: int | None = None,
) -> Verdict:
    """The same with what ``Expected.references`` gave: made once for a release, and not once for each host.

    Raises:
        QuoteRefused: the quote does not prove anything.
        LogRefused: the logs do not explain the quote.
        DocumentError: malformed evidence.
    """
    known = Known(ak=ak, nonce=nonce, chip=chip)
    judged = judge(untrusted_evidence, references, known, time, terms=terms, expires=expires)
    if judged.refusal is not None:
        raise judged.refusal
    return judged.verdict


def answer(
    untrusted_evidence: bytes,
    expected: Expected,
    known: Known,
    time: int,
    *,
    build: str,
    private_pem: bytes | None = None,
) -> Answer:
    """Judge evidence and make the result for relying parties.

    Args:
        untrusted_evidence: one Evidence document.
        expected: what it is compared with.
        known: of the host.
        time: seconds since 1970 UTC.
        build: the verifier's version.
        private_pem: P-256 key that signs the result; None for none, and an empty one is malformed.

    Raises:
        VerifierUnready: see ``Expected.references``.
        DocumentError: a malformed release, policy or host image.
        KeyFileMalformed: the key is none.
    """
    return answer_prepared(
        untrusted_evidence,
        expected.references,
        known,
        time,
        terms=expected.terms,
        expires=expected.expires,
        build=build,
        private_pem=private_pem,
    )


def answer_prepared(
    untrusted_evidence: bytes,
    references: tuple[Reference, ...] | Callable[[], tuple[Reference, ...]],
    known: Known,
    time: int,
    *,
    terms: Terms,
    build: str,
    expires: int | None = None,
    private_pem: bytes | None = None,
) -> Answer:
    """The same with what ``Expected.references`` gave, or gives when it is called.

    Raises:
        VmgateError: what the call raises.
        KeyFileMalformed: the key is none.
    """

    def judgement() -> Judged:
        made = references() if callable(references) else references
        return judge(untrusted_evidence, made, known, time, terms=terms, expires=expires)

    judged = _guarded(judgement)
    if isinstance(judged, VerifierFailed):
        judged = Judged(verdict=_no_verdict(judged, time), refusal=judged)
    verdict, release = judged.verdict, judged.release
    claims = _guarded(lambda: ear_claims(verdict, build=build, nonce=_told_nonce(known.nonce), policy=release))
    if isinstance(claims, VerifierFailed):
        return Answer(judged=Judged(verdict=_no_verdict(claims, time), refusal=claims), claims={})
    token = _guarded(lambda: sign_ear(claims, private_pem)) if private_pem is not None else ""
    if isinstance(token, VerifierFailed):
        return Answer(judged=Judged(verdict=_no_verdict(token, time), refusal=token), claims={})
    return Answer(judged=judged, claims=claims, token=token)


def answer_once(
    nonces: Spends,
    host: str,
    untrusted_evidence: bytes,
    expected: Expected,
    known: Known,
    time: int,
    *,
    build: str,
    private_pem: bytes | None = None,
) -> Answer:
    """The same for a verifier that runs on: the nonce must be one that it gave to this host, and that was not answered.

    Raises:
        NonceRefused: it is not; nothing was looked at.
    """
    nonces.spend(host, known.nonce, time)
    return answer(untrusted_evidence, expected, known, time, build=build, private_pem=private_pem)


def _guarded(step: Callable[[], T]) -> T | VerifierFailed:
    """Take a step; what nobody foresaw comes back as an error that is a no, for whoever waits for an answer."""
    try:
        return step()
    except VmgateError:
        raise
    except Exception as error:  # noqa: BLE001 - every way in which this can fail must end in a no
        failed = VerifierFailed(
            "the host is not trusted",
            cause=f"the verifier failed: {type(error).__name__}",
            remedy="report it with the release and the evidence, if you may",
        )
        failed.__cause__ = error
        return failed


def _no_verdict(failed: VerifierFailed, time: int) -> Verdict:
    """The verdict of a verifier that is not well: it asserts nothing, and nobody may go on."""
    found = Finding(
        check=VERIFIER, subject="vmgate", outcome="fail", expected="a verifier that comes to an end", found=failed.cause
    )
    return Verdict(subject="platform", level="L0", time=time, findings=(found,))


def _told_nonce(nonce: bytes) -> bytes:
    """The nonce, where it is one that a result can name; a shorter or longer one was refused with the quote."""
    return nonce if 8 <= len(nonce) <= 64 else b""


def _accepting(workloads: list[Release], platform: Release) -> dict[str, Release]:
    """The newest of each workload channel that goes with a platform release; the newest of all where none does."""
    found = {release.channel: release for release in workloads}
    fitting = (release for release in workloads if release.accepts[0] <= platform.number <= release.accepts[1])
    return found | {release.channel: release for release in fitting}


def _of(wanted: Artifact | None, given: dict[str, T], platforms: int) -> T | None:
    """What a release names, of what was given. With one release, what was given is told to be another's if it is."""
    if wanted is not None and wanted.fsverity in given:
        return given[wanted.fsverity]
    return next(iter(given.values()), None) if platforms == 1 else None


def _identity(anchor: bytes | None, platform: Release) -> str:
    if anchor is not None:
        return TrustAnchor(anchor).identity
    return next((value.fsverity for value in platform.reference if value.component == "repository"), "")
