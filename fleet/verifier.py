# SPDX-License-Identifier: Apache-2.0
"""Judging a host from outside: evidence in, a verdict and its EAR out.

Needs no TPM, no libvirt and nothing of the host's but the evidence. The appraisal itself is ``measure.appraise``, the
same function that the host's own gate uses. This module does not fetch releases and does not keep results.
"""

from __future__ import annotations

from dataclasses import dataclass

from documents.evidence import Evidence
from documents.host_image import HostImage
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Verdict
from fleet.errors import VerifierUnready
from keys.anchor import TrustAnchor
from measure.appraise import Reference, appraise, claims_from_evidence
from measure.known_image import KnownImage

NOTHING_ALLOWED = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a host is compared with, as bytes, all of it as the verifier trusts it.

    Attributes:
        releases: the releases that the host should run, one of them a platform's. Of several of one workload channel
            the newest counts, and the others explain VMs that still run.
        anchor: root metadata of the repository; None takes the repository's identity from the release.
        policy: the platform release's security policy; None stands for one that allows nothing.
        image: the platform release's host image; needed where it has one.
    """

    releases: tuple[bytes, ...]
    anchor: bytes | None
    policy: bytes | None
    image: bytes | None = None


def verify_evidence(
    untrusted_evidence: bytes, expected: Expected, *, ak: bytes, nonce: bytes, time: int, chip: bool = False
) -> Verdict:
    """Judge evidence.

    Args:
        untrusted_evidence: one Evidence document.
        expected: what it is compared with.
        ak: TPMT_PUBLIC of the host's attestation key, as enrolled.
        nonce: what the verifier sent, at least 16 bytes.
        time: seconds since 1970 UTC.
        chip: whether the enrolment showed the key to be a TPM chip's.

    Raises:
        VerifierUnready: not exactly one platform release.
        QuoteRefused: the quote does not prove anything.
        LogRefused: the logs do not explain the quote.
        DocumentError: malformed evidence or release.
    """
    return verify_prepared(untrusted_evidence, prepare(expected), ak=ak, nonce=nonce, time=time, chip=chip)


def prepare(expected: Expected) -> Reference:
    """Parse and index what hosts are compared with: once for a release, not once for each host.

    Raises:
        VerifierUnready: not exactly one platform release.
        DocumentError: a malformed release, policy or host image.
    """
    parsed = [Release.parse(release) for release in expected.releases]
    platforms = [release for release in parsed if release.authority == "platform"]
    if len(platforms) != 1:
        raise VerifierUnready(
            "nothing was verified",
            cause=f"{len(platforms)} platform releases were given",
            remedy="give exactly one with --release",
        )
    workloads = sorted((r for r in parsed if r.authority == "workload"), key=lambda release: release.number)
    newest = {release.channel: release for release in workloads}
    image = HostImage.parse(expected.image) if expected.image is not None else None
    return Reference(
        identity=_identity(expected.anchor, platforms[0]),
        platform=platforms[0],
        workloads=tuple(newest.values()),
        earlier=tuple(release for release in workloads if release not in newest.values()),
        policy=SecurityPolicy.parse(expected.policy) if expected.policy is not None else NOTHING_ALLOWED,
        image=image,
        known=KnownImage(image) if image is not None else None,
    )


def verify_prepared(
    untrusted_evidence: bytes, reference: Reference, *, ak: bytes, nonce: bytes, time: int, chip: bool = False
) -> Verdict:
    """Judge evidence by what ``prepare`` made; the rest is as in ``verify_evidence``.

    Raises:
        QuoteRefused: the quote does not prove anything.
        LogRefused: the logs do not explain the quote.
        DocumentError: malformed evidence.
    """
    entries = reference.known.entries if reference.known else None
    claims = claims_from_evidence(Evidence.parse(untrusted_evidence), ak, nonce, chip=chip, known=entries)
    return appraise(claims, reference, time)


def _identity(anchor: bytes | None, platform: Release) -> str:
    if anchor is not None:
        return TrustAnchor(anchor).identity
    return next((value.fsverity for value in platform.reference if value.component == "repository"), "")
