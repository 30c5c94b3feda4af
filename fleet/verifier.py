# SPDX-License-Identifier: Apache-2.0
"""Judging a host from outside: evidence in, a verdict and its EAR out.

Needs no TPM, no libvirt and nothing of the host's but the evidence. The appraisal itself is ``measure.appraise``, the
same function that the host's own gate uses. This module does not fetch releases and does not keep results.
"""

from __future__ import annotations

from collections.abc import Iterable

from documents.evidence import Evidence
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Verdict
from fleet.errors import VerifierUnready
from keys.anchor import TrustAnchor
from measure.appraise import Reference, appraise, claims_from_evidence

NOTHING_ALLOWED = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)


def verify_evidence(
    untrusted_evidence: bytes,
    *,
    releases: Iterable[bytes],
    anchor: bytes | None,
    ak: bytes,
    nonce: bytes,
    policy: bytes | None,
    time: int,
) -> Verdict:
    """Judge evidence.

    Args:
        untrusted_evidence: one Evidence document.
        releases: the releases that the host should run, one of them a platform's; as the verifier trusts them. Of
            several of one workload channel the newest counts, and the others explain VMs that still run.
        anchor: root metadata of the repository; None takes the repository's identity from the release.
        ak: TPMT_PUBLIC of the host's attestation key, as enrolled.
        nonce: what the verifier sent, at least 16 bytes.
        policy: the platform release's security policy; None stands for one that allows nothing.
        time: seconds since 1970 UTC.

    Raises:
        VerifierUnready: not exactly one platform release.
        QuoteRefused: the quote does not prove anything.
        LogRefused: the logs do not explain the quote.
        DocumentError: malformed evidence or release.
    """
    parsed = [Release.parse(release) for release in releases]
    platforms = [release for release in parsed if release.authority == "platform"]
    if len(platforms) != 1:
        raise VerifierUnready(
            "nothing was verified",
            cause=f"{len(platforms)} platform releases were given",
            remedy="give exactly one with --release",
        )
    workloads = sorted((r for r in parsed if r.authority == "workload"), key=lambda release: release.number)
    newest = {release.channel: release for release in workloads}
    reference = Reference(
        identity=_identity(anchor, platforms[0]),
        platform=platforms[0],
        workloads=tuple(newest.values()),
        earlier=tuple(release for release in workloads if release not in newest.values()),
        policy=SecurityPolicy.parse(policy) if policy is not None else NOTHING_ALLOWED,
    )
    claims = claims_from_evidence(Evidence.parse(untrusted_evidence), ak, nonce)
    return appraise(claims, reference, time)


def _identity(anchor: bytes | None, platform: Release) -> str:
    if anchor is not None:
        return TrustAnchor(anchor).identity
    return next((value.fsverity for value in platform.reference if value.component == "repository"), "")
