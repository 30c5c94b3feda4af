# SPDX-License-Identifier: Apache-2.0
"""State that earlier vmgates wrote is taken forward, and back again with a rollback; newer state is left alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import StateNewer, StateStays
from agent.paths import HostPaths
from agent.state_forms import NEWEST, STEPS, StateForms
from documents.errors import DocumentError, DocumentNewer, Exit
from documents.host_state import SealedKey
from documents.state_form import StateForm
from lab.crash import crash_points
from lab.documents import DOCUMENTS
from lab.state_vectors import KINDS, name_of

VECTORS = Path(__file__).resolve().parents[2] / "vectors/state"
EARLIER = sorted(path for path in VECTORS.iterdir() if path.is_dir())
BY_NAME = {name_of(kind): kind for kind in DOCUMENTS}
FORMS = {"1-first": 1, "2-verified-root": 2, "3-unattended": 2, "4-recovery": 2}
OLD_BUILD, BUILD = "a" * 64, "b" * 64

EACH = pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.name)


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    paths = HostPaths(tmp_path)
    paths.sealed_key.parent.mkdir(parents=True)
    return paths


def laid_out(earlier: Path, paths: HostPaths) -> HostPaths:
    """The files of an earlier state in their places, as far as a step could want them."""
    shutil.copy(earlier / "sealed-key.json", paths.sealed_key)
    shutil.copy(earlier / "update-journal.json", paths.state / "journal")
    shutil.copy(earlier / "floor.json", paths.state / "floor")
    return paths


def tree(paths: HostPaths) -> dict[str, bytes]:
    return {str(p.relative_to(paths.root)): p.read_bytes() for p in paths.root.rglob("*") if p.is_file()}


@EACH
def test_what_an_earlier_vmgate_wrote_is_read_as_it_stands_or_after_its_steps(earlier: Path, paths: HostPaths) -> None:
    laid_out(earlier, paths)
    assert StateForms(paths).current().form == FORMS[earlier.name]
    StateForms(paths).enter()
    assert StateForms(paths).current().form == NEWEST
    shutil.copy(paths.sealed_key, paths.root / "sealed-key.json")
    files = [path for path in earlier.iterdir() if path.stem != "sealed-key"] + [paths.root / "sealed-key.json"]
    assert {path.stem for path in files} <= KINDS
    for path in files:
        assert BY_NAME[path.stem].parse(path.read_bytes()).encode() == path.read_bytes()


def test_a_key_of_the_first_form_needs_no_pcr_of_the_hosts_own(paths: HostPaths) -> None:
    laid_out(VECTORS / "1-first", paths)
    with pytest.raises(DocumentError):
        SealedKey.parse(paths.sealed_key.read_bytes())
    StateForms(paths).enter()
    assert SealedKey.parse(paths.sealed_key.read_bytes()).local_pcrs == ()


def test_forward_and_back_is_where_it_was(paths: HostPaths) -> None:
    laid_out(VECTORS / "1-first", paths)
    before = tree(paths)
    forms = StateForms(paths)
    forms.enter()
    forms.note(BUILD)
    forms._write(replace(forms.current(), builds=((OLD_BUILD, 1), (BUILD, NEWEST))))
    paths.update_trial.write_bytes(b"whatever")
    forms.go_back(OLD_BUILD)
    assert tree(paths) == before
    forms.enter()
    assert forms.current().form == NEWEST


def test_a_build_that_was_never_seen_or_writes_the_same_asks_for_nothing(paths: HostPaths) -> None:
    laid_out(VECTORS / "4-recovery", paths)
    forms = StateForms(paths)
    forms.enter()
    forms.note(BUILD)
    forms.note(BUILD)
    before = tree(paths)
    forms.go_back(OLD_BUILD)
    forms.go_back(BUILD)
    assert tree(paths) == before
    assert forms.current().builds == ((BUILD, NEWEST),)


def test_what_would_lose_the_hosts_key_is_not_taken_back(paths: HostPaths) -> None:
    laid_out(VECTORS / "4-recovery", paths)
    forms = StateForms(paths)
    forms.enter()
    assert SealedKey.parse(paths.sealed_key.read_bytes()).local_pcrs
    forms._write(replace(forms.current(), builds=((OLD_BUILD, 1),)))
    before = tree(paths)
    with pytest.raises(StateStays, match="nothing was rolled back"):
        forms.go_back(OLD_BUILD)
    assert tree(paths) == before


def test_state_of_a_newer_form_is_left_alone(paths: HostPaths) -> None:
    laid_out(VECTORS / "1-first", paths)
    paths.state_form.write_bytes(StateForm(form=NEWEST + 1).encode())
    before = tree(paths)
    with pytest.raises(StateNewer) as refusal:
        StateForms(paths).enter()
    assert refusal.value.exit == Exit.NOT_READY
    assert tree(paths) == before


@pytest.mark.parametrize("name", sorted(KINDS - {"audit-head"}))
def test_each_file_of_a_newer_version_is_refused_with_the_exit_code_that_says_so(name: str) -> None:
    newest = next(p for p in reversed([*EARLIER]) if (p / f"{name}.json").exists()) if name not in NEW else None
    data = (newest / f"{name}.json").read_bytes() if newest else NEW[name]
    value = json.loads(data) | {"version": 2}
    newer = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    with pytest.raises(DocumentNewer) as refusal:
        BY_NAME[name].parse(newer)
    assert refusal.value.exit == Exit.NOT_READY


NEW = {
    "state-form": StateForm(form=1).encode(),
    "update-trial": b'{"begun":0,"generation":1,"type":"vmgate.update-trial","version":1,"worked":[]}',
}


def test_a_damaged_form_is_no_form(paths: HostPaths) -> None:
    laid_out(VECTORS / "1-first", paths)
    paths.state_form.write_bytes(b"{}")
    before = tree(paths)
    with pytest.raises(DocumentError):
        StateForms(paths).enter()
    assert tree(paths) == before


@pytest.mark.parametrize("way", ["forward", "back"])
def test_a_cut_at_any_effect_is_one_form_or_the_other_and_goes_on(way: str, tmp_path: Path) -> None:
    def forward(root: Path) -> None:
        StateForms(HostPaths(root)).enter()

    def prepare(root: Path) -> None:
        HostPaths(root).sealed_key.parent.mkdir(parents=True)
        laid_out(VECTORS / "1-first", HostPaths(root))
        if way == "back":
            forward(root)
            forms = StateForms(HostPaths(root))
            forms._write(replace(forms.current(), builds=((OLD_BUILD, 1),)))

    def back(root: Path) -> None:
        StateForms(HostPaths(root)).go_back(OLD_BUILD)

    seen = 0
    for point in crash_points(tmp_path, prepare, forward if way == "forward" else back):
        seen += 1
        forms = StateForms(HostPaths(point.root))
        assert 1 <= forms.current().form <= NEWEST, point.label
        # Whoever starts next, the newer vmgate reads it.
        forms.enter()
        assert forms.current().form == NEWEST, point.label
        assert SealedKey.parse(HostPaths(point.root).sealed_key.read_bytes()).local_pcrs == ()
    assert seen > len(STEPS) * 10
