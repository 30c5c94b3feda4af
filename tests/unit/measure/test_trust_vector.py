# SPDX-License-Identifier: Apache-2.0
"""What findings become in a relying party's words, and that no check is without a word."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from documents.verdict import OUTCOMES, Finding, Verdict
from lab.documents import FULL_TEXTS
from lab.source import modules
from measure.trust_vector import CLAIMS, told_by_claim, trust_vector

MAKERS = frozenset(
    {"Finding", "finding", "compare", "compared", "found_out", "make_finding", "_verify", "_finding", "_stopped"}
)
"""What makes findings, with the check first or as ``check``."""

AR4SI = {
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "instance-identity",
    "sourced-data",
    "storage-opaque",
}


def found(check: str, outcome: str = "pass") -> Finding:
    return Finding(check=check, subject="it", outcome=outcome, expected="a", found="b")


def verdict(*findings: Finding, level: str = "L2") -> Verdict:
    return Verdict(subject="platform", level=level, time=1, findings=findings)


def checks_in_the_source() -> Iterator[str]:
    """Every check that stands as a text where a finding is made."""
    for module in modules():
        if module.package not in ("agent", "fleet", "measure"):
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in MAKERS:
                continue
            named = [keyword.value for keyword in node.keywords if keyword.arg == "check"]
            for value in named or node.args[:1]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def test_every_check_speaks_for_a_claim_and_every_row_is_a_check() -> None:
    # These stand elsewhere than where a finding is made.
    elsewhere = {"component-origin", "kernel-argument", "verifier", "vm-key", "vm-tpm"}
    assert set(checks_in_the_source()) | elsewhere == set(CLAIMS)
    assert set(CLAIMS.values()) == AR4SI


@given(
    st.lists(st.tuples(st.sampled_from([*sorted(CLAIMS), "a-check-of-the-future"]), st.sampled_from(OUTCOMES))),
    st.sampled_from(("L0", "L1", "L2")),
    FULL_TEXTS,
)
def test_the_vector_is_never_better_than_the_verdict(outcomes: list[tuple[str, str]], level: str, subject: str) -> None:
    told = [found(check, outcome) for check, outcome in outcomes]
    judged = Verdict(subject=subject, level=level, time=1, findings=(*told, found("assurance-level")))
    vector = trust_vector(judged, proven=True)
    affirmed = all(2 <= value < 32 for value in vector.values())
    assert affirmed == (judged.status == "affirming")
    not_passed = {check for checks in told_by_claim(judged).values() for check in checks}
    assert not_passed == {check for check, outcome in outcomes if outcome != "pass"}


def test_what_stops_an_appraisal_has_a_value_of_its_own() -> None:
    for check, vector in {
        "attestation-key": {"instance-identity": 97},
        "quote": {"instance-identity": 99},
        "evidence-logs": {"executables": 99},
        "evidence-form": {"configuration": 1},
        "evidence-asked": {"configuration": 1},
        "verifier": {"executables": -1},
    }.items():
        without_identity = {
            claim: value
            for claim, value in trust_vector(verdict(found(check, "fail")), proven=True).items()
            if claim in vector
        }
        assert without_identity == vector, check
    # A verifier that was not well has found nothing.
    assert trust_vector(verdict(found("log"), found("verifier", "fail")), proven=True) == {"executables": -1}


def test_values_by_level() -> None:
    level = found("assurance-level")
    assert trust_vector(verdict(level), proven=True) == {"configuration": 2, "hardware": 2, "instance-identity": 2}
    assert trust_vector(verdict(level, level="L1"), proven=False) == {"configuration": 2, "executables": 33}
    software = verdict(found("assurance-level", "warn"), found("vm-key"), level="L0")
    assert trust_vector(software, proven=False) == {
        "configuration": 32, "executables": 33, "hardware": 32, "storage-opaque": 32
    }  # fmt: skip
    forbidden = verdict(found("assurance-level", "fail"), level="L0")
    assert trust_vector(forbidden, proven=False) == {"configuration": 96, "executables": 33, "hardware": 97}


def test_a_worse_finding_is_not_hidden_by_a_milder_one() -> None:
    for more in (found("component-digest", "warn"), found("log")):
        for order in ((found("log-replay", "fail"), more), (more, found("log-replay", "fail"))):
            assert trust_vector(verdict(*order), proven=False)["executables"] == 96
    both = verdict(found("evidence-asked", "fail"), found("event", "fail"))
    assert trust_vector(both, proven=False)["configuration"] == 96
