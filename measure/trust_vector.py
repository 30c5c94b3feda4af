# SPDX-License-Identifier: Apache-2.0
"""What a verdict's findings mean in the words of AR4SI: the trustworthiness vector of an attestation result.

Source: draft-ietf-rats-ar4si-08 section 2.3 (claims, values and their tiers: 2 to 31 affirming, 32 to 95 warning, 96 to
127 contraindicated; -1 to 1 say nothing good or bad). ``CLAIMS`` says which claim each check speaks for, so that a
status of "contraindicated" can be followed to what failed. A claim that nothing was found about is left out, which
AR4SI reads as no claim: ``runtime-opaque`` always, since no evidence of ours is about it.

This module does not judge: it counts nothing as better than its finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from documents.verdict import Finding, Verdict

CONFIGURATION: Final = "configuration"
EXECUTABLES: Final = "executables"
FILE_SYSTEM: Final = "file-system"
HARDWARE: Final = "hardware"
IDENTITY: Final = "instance-identity"
SOURCED_DATA: Final = "sourced-data"
STORAGE: Final = "storage-opaque"

MALFUNCTION: Final = -1
UNEXPECTED: Final = 1
AFFIRMING: Final = 2
WARNING: Final = 32
UNRECOGNIZED: Final = 33
"""For executables: there are others than those that are recognized."""
CONTRAINDICATED: Final = 96
UNKNOWN: Final = 97
"""For instance and hardware: not recognized, and it should be."""
CRYPTO_FAILED: Final = 99

VERIFIER: Final = "verifier"
"""The check that fails when the verifier itself did."""

_BY_CLAIM: Final[Mapping[str, tuple[str, ...]]] = {
    IDENTITY: ("attestation-key", "nonce", "quote", "reset-count"),
    CONFIGURATION: (
        "accelerator", "assurance-level", "baseline", "domain", "event", "evidence-asked", "evidence-form",
        "generation-id", "host-local", "kernel-argument", "lint", "local-guardians", "local-place", "local-policy",
        "not-approved", "policy", "reference", "secure-boot", "secure-boot-variable", "start-order", "taken-back",
    ),
    EXECUTABLES: (
        "boot-application", "boot-command-line", "boot-continuity", "boot-initrd", "boot-log", "boot-log-quirk",
        "boot-phase", "boot-section", "component-digest", "component-now", "component-order", "component-origin",
        "component-refused", "component-unknown", "could-not-check", "earlier-log", "evidence-logs", "log",
        "log-replay", "reference-expiry", "release-valid", "secure-boot-authority", VERIFIER, "vm-start", "vmm-switch",
    ),
    FILE_SYSTEM: ("ima-buffer", "ima-file", "ima-list", "ima-violation"),
    HARDWARE: ("firmware",),
    SOURCED_DATA: (
        "definition", "disk-chain", "disk-format", "generation", "image", "local-image", "local-name", "local-vm",
        "refused-digest", "release-accepts", "repository-identity",
    ),
    STORAGE: ("disk-state", "vm-key", "vm-tpm"),
}  # fmt: skip

CLAIMS: Final[Mapping[str, str]] = MappingProxyType(
    {check: claim for claim, checks in _BY_CLAIM.items() for check in checks}
)
"""The claim that each check speaks for."""

_FAILED: Final[Mapping[str, int]] = {
    "attestation-key": UNKNOWN,
    "evidence-asked": UNEXPECTED,
    "evidence-form": UNEXPECTED,
    "evidence-logs": CRYPTO_FAILED,
    "quote": CRYPTO_FAILED,
    VERIFIER: MALFUNCTION,
}
"""What a failure means where it is not ``CONTRAINDICATED``."""

_WARNED: Final[Mapping[str, int]] = {"component-digest": UNRECOGNIZED, "component-now": UNRECOGNIZED}


def trust_vector(verdict: Verdict, *, proven: bool) -> dict[str, int]:
    """The claims of a verdict, by name; each is as bad as the worst finding that speaks for it.

    Args:
        verdict: the appraisal.
        proven: whether a quote answered a nonce, so that the instance is known.
    """
    failed = {finding.check for finding in verdict.failures()}
    if VERIFIER in failed:
        # What was found before is worth nothing: whoever found it was not well.
        return {EXECUTABLES: MALFUNCTION}
    if not verdict.findings:
        return {CONFIGURATION: CONTRAINDICATED, EXECUTABLES: CONTRAINDICATED}
    vector: dict[str, int] = {}
    for finding in verdict.findings:
        claim = CLAIMS.get(finding.check, EXECUTABLES)
        vector[claim] = max(vector.get(claim, AFFIRMING), _value(finding))
    if proven and not failed & {"attestation-key", "quote", "evidence-form"}:
        vector.setdefault(IDENTITY, AFFIRMING)
    for claim, value in _of_level(verdict, failed):
        vector[claim] = max(vector.get(claim, AFFIRMING), value)
    # A part that means "no assertion" is no less than a failure that makes one.
    return {claim: UNEXPECTED if _only_unexpected(claim, failed) else value for claim, value in vector.items()}


def told_by_claim(verdict: Verdict) -> dict[str, tuple[str, ...]]:
    """Which checks did not pass, by the claim that each speaks for, in the order of the findings."""
    told: dict[str, dict[str, None]] = {}
    for finding in verdict.findings:
        if finding.outcome != "pass":
            told.setdefault(CLAIMS.get(finding.check, EXECUTABLES), {})[finding.check] = None
    return {claim: tuple(checks) for claim, checks in told.items()}


def _value(finding: Finding) -> int:
    if finding.outcome == "pass":
        return AFFIRMING
    if finding.outcome == "warn":
        return _WARNED.get(finding.check, WARNING)
    return _FAILED.get(finding.check, CONTRAINDICATED)


def _of_level(verdict: Verdict, failed: set[str]) -> Iterator[tuple[str, int]]:
    """What follows from the assurance level, where it was found."""
    if not any(finding.check == "assurance-level" for finding in verdict.findings):
        return
    if verdict.level == "L2":
        yield HARDWARE, AFFIRMING
        return
    # What ran before vmgate is not known, or nothing but its own word is: others may have run than are recognized.
    yield EXECUTABLES, UNRECOGNIZED
    if verdict.level == "L0":
        yield HARDWARE, UNKNOWN if "assurance-level" in failed else WARNING
        if any(finding.check == "vm-key" and finding.outcome == "pass" for finding in verdict.findings):
            yield STORAGE, WARNING


def _only_unexpected(claim: str, failed: set[str]) -> bool:
    of_claim = {check for check in failed if CLAIMS.get(check, EXECUTABLES) == claim}
    return bool(of_claim) and all(_FAILED.get(check) == UNEXPECTED for check in of_claim)
