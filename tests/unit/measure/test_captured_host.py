# SPDX-License-Identifier: Apache-2.0
"""A real host's evidence, captured in the rig: judged as a verifier judges it, and compared with what others say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from content.fsverity import digest_bytes
from documents.evidence import Evidence
from documents.host_image import HostImage
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Verdict
from keys.anchor import TrustAnchor
from measure.appraise import Claims, Reference, appraise, claims_from_evidence
from measure.boot import PHASE_PATHS, pcr11
from measure.errors import LogRefused, QuoteRefused
from measure.local import LOCAL_FILES, PROGRAMS

VECTORS = Path(__file__).parents[2] / "vectors/rig"
NOW = 1_800_000_000


def vector(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


FACTS: dict[str, Any] = json.loads(vector("facts.json"))
EVIDENCE = Evidence.parse(vector("evidence.json"))
IMAGE = HostImage.parse(vector("host-image.json"))
NONCE = bytes.fromhex(FACTS["nonce"])


def proven(evidence: Evidence = EVIDENCE) -> Claims:
    return claims_from_evidence(evidence, vector("ak.pub"), NONCE, chip=True)


def judged(image: HostImage = IMAGE, claims: Claims | None = None) -> Verdict:
    release = Release.parse(vector("platform.json"))
    artifacts = tuple(
        # The vectors hold the image cut down, and the release names the whole.
        replace(artifact, fsverity=digest_bytes(image.encode())) if artifact.kind == "host-image" else artifact
        for artifact in release.artifacts
    )
    reference = Reference(
        identity=TrustAnchor(vector("root.json")).identity,
        platform=replace(release, artifacts=artifacts),
        workloads=(Release.parse(vector("workload.json")),),
        policy=SecurityPolicy.parse(vector("policy.json")),
        image=image,
    )
    return appraise(claims or proven(), reference, NOW)


def failed(verdict: Verdict) -> set[tuple[str, str]]:
    found = {(finding.check, finding.subject) for finding in verdict.failures()}
    return found - {("assurance-level", "platform")}


def test_the_host_is_l2_and_affirming() -> None:
    verdict = judged()
    assert (verdict.level, verdict.status) == ("L2", "affirming")


def test_the_logs_say_what_other_programs_say() -> None:
    boot = proven().boot
    assert boot is not None
    held = {int(index): value for index, value in FACTS["pcrs"].items()}
    # Programs that ran after the quote extended PCR 10.
    assert {index: value.hex() for index, value in boot.pcrs.items() if index != 10} == {
        index: held[index] for index in range(12) if index != 10
    }
    assert dict(boot.state.sections) == FACTS["sections"]
    assert boot.phase in PHASE_PATHS
    assert pcr11(IMAGE, "sysinit:ready") == FACTS["pcr11"]
    assert IMAGE.firmware == (held[0],)


@pytest.mark.parametrize("at", range(len(IMAGE.files)))
def test_each_file_with_another_digest_is_named(at: int) -> None:
    entry = IMAGE.files[at]
    other = replace(entry, sha256=digest_bytes(b"other"), fsverity=digest_bytes(b"other"))
    image = replace(IMAGE, files=(*IMAGE.files[:at], other, *IMAGE.files[at + 1 :]))
    found = failed(judged(image))
    assert found
    # Some are measured by vmgate besides, and the agent's own program must have been known to come first.
    assert found <= {("ima-file", entry.path), ("start-order", "libvirtd"), ("host-local", PROGRAMS)} | {
        ("host-local", subject) for subject, path in LOCAL_FILES.items() if path == entry.path
    }


def test_no_byte_of_the_evidence_can_be_changed() -> None:
    """One byte in a hundred, in each part."""
    for part in ("attest", "signature", "boot_log", "ima", "cel"):
        data: bytes = getattr(EVIDENCE, part)
        for at in range(0, len(data), 100):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            try:
                claims = proven(replace(EVIDENCE, **{part: changed}))
            except (QuoteRefused, LogRefused):
                continue
            # No digest covers the text of some events, the name of an IMA template, or the end of a list that grew
            # after the quote: changed, they say nothing else that is believed.
            assert part in {"boot_log", "ima"}
            assert judged(claims=claims).findings == judged().findings or failed(judged(claims=claims))
