# SPDX-License-Identifier: Apache-2.0
"""The table of requirements is whole, names tests that exist, and claims nothing that CI does not show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from documents.audit_events import EVENTS
from hypervisor.lint import RULES
from lab.evidence import unshown
from lab.outcomes import Outcomes, fingerprint, load, plugin
from lab.requirements import CLAIMED, NOT_YET, BadTable, read, runner, table
from lab.requirements_page import PAGE, page

ROOT = Path(__file__).resolve().parents[2]
PROFILE = {
    "FAU_GEN.1",
    "FAU_SAR.1",
    "FAU_STG.1",
    "FAU_STG_EXT.1",
    "FAU_SAA.1",
    "FAU_ARP.1",
    "FCS_CKM.1",
    "FCS_CKM.2",
    "FCS_CKM_EXT.4",
    "FCS_COP.1/Hash",
    "FCS_COP.1/KeyedHash",
    "FCS_COP.1/Sig",
    "FCS_COP.1/UDE",
    "FCS_RBG_EXT.1",
    "FCS_ENT_EXT.1",
    "FCS_HTTPS_EXT.1",
    "FCS_IPSEC_EXT.1",
    "FCS_TLSC_EXT.1",
    "FCS_SSH_EXT.1",
    "FDP_HBI_EXT.1",
    "FDP_PPR_EXT.1",
    "FDP_RIP_EXT.1",
    "FDP_RIP_EXT.2",
    "FDP_VMS_EXT.1",
    "FDP_VNC_EXT.1",
    "FIA_UIA_EXT.1",
    "FIA_UAU.5",
    "FIA_PMG_EXT.1",
    "FIA_AFL_EXT.1",
    "FIA_X509_EXT.1",
    "FIA_X509_EXT.2",
    "FMT_MOF_EXT.1",
    "FMT_SMO_EXT.1",
    "FPT_TUD_EXT.1",
    "FPT_TUD_EXT.2",
    "FPT_ML_EXT.1",
    "FPT_GVI_EXT.1",
    "FPT_IDV_EXT.1",
    "FPT_INT_EXT.1",
    "FPT_DDI_EXT.1",
    "FPT_DVD_EXT.1",
    "FPT_VDP_EXT.1",
    "FPT_HCL_EXT.1",
    "FPT_VIV_EXT.1",
    "FPT_EEM_EXT.1",
    "FPT_HAS_EXT.1",
    "FPT_RDM_EXT.1",
    "FTA_TAB.1",
    "FTP_ITC_EXT.1",
    "FTP_TRP.1",
    "FTP_UIF_EXT.1",
    "FTP_UIF_EXT.2",
    "ALC_TSU_EXT.1",
}
MAY_STAY_AWAY = {
    "FDP_HBI_EXT.1", "FPT_HAS_EXT.1", "FPT_HCL_EXT.1", "FPT_DDI_EXT.1", "FPT_TUD_EXT.2", "FTP_TRP.1",
    "FCS_HTTPS_EXT.1", "FCS_IPSEC_EXT.1", "FCS_SSH_EXT.1",
}  # fmt: skip
"""Requirements that may need hardware, or not apply: all others are claimed, or are work to do."""

BULLET = '[[bullet]]\nid = "E1"\ntitle = "t"\nby = ["FAU_GEN.1"]\n'
ROW = """
[[requirement]]
id = "FAU_GEN.1"
title = "t"
tier = "mandatory"
claim = "claimed"
how = "h"
tests = ["tests/architecture/test_requirements.py::test_every_requirement_of_the_profile_has_a_row"]
"""
HERE = "tests/architecture/test_requirements.py::test_every_requirement_of_the_profile_has_a_row"


def test_every_requirement_of_the_profile_has_a_row() -> None:
    assert {row.id for row in table().requirements} == PROFILE
    assert [bullet.id for bullet in table().bullets] == [*(f"E{n}" for n in range(1, 8)), "X1", "O1", "O2", "O3"]


def test_what_other_tables_serve_has_a_row() -> None:
    """Events and rules of hardening name requirements as well."""
    served = {name for event in EVENTS for name in event.rows}
    served |= {name for rule in RULES for name in re.split(r", ", rule.sfr)}
    assert served <= PROFILE


def test_every_test_that_is_named_exists() -> None:
    assert all(runner(test) for row in table().requirements for test in row.tests)


def test_no_claim_stands_on_tests_that_ci_leaves_out() -> None:
    for row in table().requirements:
        assert row.claim != CLAIMED or set(row.runners) - {"long"}, row.id


def test_only_what_needs_hardware_or_was_not_selected_stays_away() -> None:
    away = {row.id for row in table().requirements if row.claim in {"needs hardware", "not applicable"}}
    assert away <= MAY_STAY_AWAY
    assert all(not row.tests for row in table().requirements if row.claim == NOT_YET)


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: PYTHONPATH=tests python -m lab.requirements_page"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"claimed"', '"sure"', "unknown tier or claim"),
        ('how = "h"', "", "says not how"),
        ('how = "h"', 'how = "h"\nmissing = "m"', "exactly where"),
        ('how = "h"', 'how = "h"\nproof = "p"', "unknown member proof"),
        ("::test_every", ": test_every", "not the name of a test"),
        ('"claimed"', '"not yet"\nmissing = "m"', "call it partly"),
        ('by = ["FAU_GEN.1"]', 'by = ["FAU_GEN.2"]', "no such requirement"),
        (ROW, ROW + ROW, "twice"),
    ],
)
def test_a_table_that_claims_too_much_is_refused(old: str, new: str, told: str) -> None:
    good = BULLET + ROW
    assert read(good).requirements[0].id == "FAU_GEN.1"
    assert old in good
    with pytest.raises(BadTable, match=told):
        read(good.replace(old, new))


def test_a_test_that_does_not_exist_is_refused() -> None:
    for name in ("tests/architecture/test_requirements.py::test_nothing", "tests/unit/test_none.py::test_x"):
        with pytest.raises(BadTable, match="there is no"):
            runner(name)


def test_a_long_test_is_known() -> None:
    assert runner("tests/rig/test_gated_vm.py::test_autostart_passes_the_gate_at_the_next_boot") == "long"
    assert runner("tests/fuzz/test_parsers.py::test_no_bytes_do_harm") == "unit"


@pytest.mark.parametrize("outcome", ["failed", "skipped", "expected failure", None])
def test_what_did_not_pass_shows_nothing(outcome: str | None) -> None:
    rows = read(BULLET + ROW)
    assert unshown(rows, {HERE: "passed"}) == []
    found = {} if outcome is None else {HERE: outcome}
    assert unshown(rows, found) == [f"FAU_GEN.1: {HERE}: {outcome or 'not run'}"]


def report(case: str, outcome: str, when: str = "call", **more: Any) -> SimpleNamespace:
    flags = {"passed": outcome == "passed", "skipped": outcome == "skipped", "failed": outcome == "failed"}
    return SimpleNamespace(nodeid=f"tests/t.py::test_x[{case}]", outcome=outcome, when=when, **flags, **more)


def test_the_worst_case_of_a_test_counts(tmp_path: Path) -> None:
    for cases, expected in (
        ([report("a", "passed"), report("b", "passed", "setup")], "passed"),
        ([report("a", "passed"), report("b", "failed"), report("c", "passed")], "failed"),
        ([report("a", "passed"), report("b", "failed", "teardown")], "failed"),
        ([report("a", "passed"), report("b", "skipped")], "skipped"),
        ([report("a", "passed"), report("b", "skipped", wasxfail="known")], "expected failure"),
    ):
        outcomes = Outcomes(tmp_path / "unit.json")
        outcomes.pytest_sessionstart(None)
        for case in cases:
            outcomes.pytest_runtest_logreport(case)
        outcomes.pytest_sessionfinish(None)
        assert load(tmp_path, fingerprint()) == {"tests/t.py::test_x": expected}


def test_outcomes_of_another_tree_or_of_a_run_that_was_broken_off_count_for_nothing(tmp_path: Path) -> None:
    kept = Outcomes(tmp_path / "unit.json")
    kept.pytest_runtest_logreport(report("a", "passed"))
    kept.pytest_sessionfinish(None)
    assert load(tmp_path, fingerprint())
    content = json.loads((tmp_path / "unit.json").read_text())
    (tmp_path / "unit.json").write_text(json.dumps({**content, "fingerprint": "0" * 64}))
    assert load(tmp_path, fingerprint()) == {}
    Outcomes(tmp_path / "unit.json").pytest_sessionstart(None)
    assert not list(tmp_path.iterdir())


def test_a_changed_test_is_another_tree(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/sfr.toml").write_text("")
    (tmp_path / "tests/test_x.py").write_text("def test_x(): assert 1")
    before = fingerprint(tmp_path)
    (tmp_path / "tests/test_x.py").write_text("def test_x(): assert 2")
    assert fingerprint(tmp_path) != before


def test_only_runs_of_tox_are_kept_and_only_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOX_ENV_NAME", raising=False)
    assert plugin(SimpleNamespace()) is None
    monkeypatch.setenv("TOX_ENV_NAME", "unit")
    assert plugin(SimpleNamespace(workerinput={})) is None
    kept = plugin(SimpleNamespace())
    assert kept is not None
    assert kept.file.name == "unit.json"
