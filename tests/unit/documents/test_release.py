# SPDX-License-Identifier: Apache-2.0
"""A release that contradicts itself is refused, whoever signed it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from documents.canonical import encode
from documents.errors import DocumentError
from documents.release import Artifact, PolicyKey, ReferenceValue, Release, SignedPolicy
from documents.waves import Wave

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
FRESH = SignedPolicy(entry="fresh", predecessor=0, epoch=1, pcrs=((13, A),), signature=b"s" * 64)
PLATFORM = Release(
    channel="platform",
    authority="platform",
    number=2,
    epoch=1,
    minimum_agent="0.1.0",
    import_days=30,
    accepts=(0, 0),
    artifacts=(Artifact(name="vmm/host-files", kind="host-files", fsverity=A, length=10),),
    reference=(
        ReferenceValue(component="repository", fsverity=C),
        ReferenceValue(component="vmm/host-files", fsverity=A),
    ),
    policy_keys=(PolicyKey(x=A, y=B),),
    policies=(FRESH,),
    refused=(B,),
)
WORKLOAD = dataclasses.replace(
    PLATFORM,
    channel="work",
    authority="workload",
    accepts=(1, 2),
    artifacts=(Artifact(name="image/guest", kind="image", fsverity=B, length=4096),),
    reference=(),
    policy_keys=(),
    policies=(),
)


def refused(release: Release, why: str, **changes: Any) -> None:
    value = json.loads(release.encode())
    value.update(changes)
    with pytest.raises(DocumentError, match=why):
        Release.parse(encode(value))


@pytest.mark.parametrize("release", [PLATFORM, WORKLOAD], ids=["platform", "workload"])
def test_sane(release: Release) -> None:
    assert Release.parse(release.encode()) == release


@pytest.mark.parametrize("member", ["reference", "policy_keys", "policies"])
def test_platform_without(member: str) -> None:
    refused(PLATFORM, "must be there in a platform release", **{member: []})


@pytest.mark.parametrize("member", ["reference", "policy_keys", "policies"])
def test_workload_with(member: str) -> None:
    refused(WORKLOAD, "no meaning in a workload release", **{member: json.loads(PLATFORM.encode())[member]})


def test_no_artifacts() -> None:
    refused(PLATFORM, "is empty", artifacts=[])
    refused(WORKLOAD, "is empty", artifacts=[])


def test_repeated_names() -> None:
    artifact = PLATFORM.artifacts[0].members()
    refused(PLATFORM, "repeats", artifacts=[artifact, {**artifact, "fsverity": B}])
    value = PLATFORM.reference[0].members()
    refused(PLATFORM, "repeats", reference=[value, {**value, "fsverity": B}])
    refused(PLATFORM, "repeats", refused=[A, A])


def test_platform_releases_accepted() -> None:
    refused(PLATFORM, "no meaning in a platform release", accepts_from=1, accepts_to=2)
    refused(PLATFORM, "no meaning in a platform release", accepts_to=1)
    refused(WORKLOAD, "names no platform release", accepts_from=0, accepts_to=2)
    refused(WORKLOAD, "names no platform release", accepts_from=3, accepts_to=2)
    refused(WORKLOAD, "names no platform release", accepts_from=0, accepts_to=0)


STEPS = [{"after": 3_600, "share": 10}, {"after": 86_400, "share": 1_000}]


def test_waves_are_absent_or_lead_to_everybody() -> None:
    waves = (Wave(after=3_600, share=10), Wave(after=86_400, share=1_000))
    release = dataclasses.replace(PLATFORM, waves=waves)
    assert json.loads(release.encode())["waves"] == STEPS
    assert Release.parse(release.encode()) == release
    assert "waves" not in json.loads(PLATFORM.encode())


@pytest.mark.parametrize(
    ("waves", "why"),
    [
        ([], "does not end with all hosts"),
        (STEPS[:1], "does not end with all hosts"),
        ([STEPS[1], STEPS[0]], "does not rise"),
        ([STEPS[0], STEPS[0], STEPS[1]], "does not rise"),
        ([STEPS[0], {"after": 3_600, "share": 1_000}], "does not rise"),
        ([{"after": 1, "share": 1_000}, {"after": 2, "share": 1_000}], "does not rise"),
        ([{"after": -1, "share": 1_000}], "not between"),
        ([{"after": 0, "share": 0}], "not between"),
        ([{"after": 0, "share": 1_001}], "not between"),
        ([{"after": 367 * 86_400, "share": 1_000}], "not between"),
        ([{"after": 0, "share": 1_000, "seed": 1}], "unknown"),
        ([{"share": 1_000}], "missing"),
        ([{"after": n, "share": n + 1} for n in range(17)], "more than 16"),
    ],
)
def test_waves_that_are_none(waves: Any, why: str) -> None:
    refused(PLATFORM, why, waves=waves)


def test_urgent_is_true_or_absent_and_has_no_waves() -> None:
    urgent = dataclasses.replace(PLATFORM, urgent=True)
    assert Release.parse(urgent.encode()) == urgent
    assert "urgent" not in json.loads(PLATFORM.encode())
    refused(PLATFORM, "is there and not true", urgent=False)
    refused(PLATFORM, "not true or false", urgent=1)
    refused(urgent, "no meaning in an urgent release", waves=STEPS)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pcrs": []}, "empty or not in ascending order"),
        ({"pcrs": [{"index": 13, "sha256": A}, {"index": 7, "sha256": A}]}, "not in ascending order"),
        ({"pcrs": [{"index": 13, "sha256": A}, {"index": 13, "sha256": B}]}, "not in ascending order"),
        ({"pcrs": [{"index": 24, "sha256": A}]}, "not between 0 and 23"),
        ({"pcrs": [{"index": 13, "sha256": A.upper()}]}, "not in its form"),
        ({"signature": "AAAA"}, "not 64 bytes"),
        ({"predecessor": 1}, "does not fit its entry"),
        ({"entry": "switch"}, "does not fit its entry"),
        ({"entry": "resume"}, "not one of the known"),
        ({"epoch": -1}, "not between"),
    ],
)
def test_policies(changes: dict[str, Any], why: str) -> None:
    refused(PLATFORM, why, policies=[{**FRESH.members(), **changes}])


def test_policies_for_every_way_in_phase_and_epoch_find_room() -> None:
    policies = tuple(dataclasses.replace(FRESH, epoch=epoch) for epoch in range(257))
    full = dataclasses.replace(PLATFORM, policies=policies[:256])
    assert Release.parse(full.encode()) == full
    refused(PLATFORM, "member 'policies'", policies=[policy.members() for policy in policies])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("channel", ""),
        ("channel", "Platform"),
        ("channel", "../platform"),
        ("channel", "a" * 64),
        ("channel", "a\n"),
        ("authority", "local"),
        ("number", 0),
        ("number", 2**31 + 1),
        ("epoch", 0),
        ("minimum_agent", "1.0"),
        ("minimum_agent", "1.0.0\n"),
        ("minimum_agent", "\u0661.0.0"),
        ("import_days", -1),
        ("import_days", 3661),
        ("refused", ["aa"]),
        ("refused", [A] * 2),
    ],
)
def test_out_of_bounds(member: str, value: Any) -> None:
    refused(PLATFORM, f"member '{member}'", **{member: value})


@pytest.mark.parametrize(
    "name",
    ["", "/", "/vmm", "vmm/", "vmm//code", "../etc", "vmm/..", "vmm/.code", "VMM", "vmm\\code", "a/b/c/d/e", "a b"],
)
def test_artifact_names_are_no_paths(name: str) -> None:
    refused(PLATFORM, "not in its form", artifacts=[{**PLATFORM.artifacts[0].members(), "name": name}])


def test_lookup() -> None:
    assert PLATFORM.artifact("vmm/host-files") == PLATFORM.artifacts[0]
    assert PLATFORM.artifact("vmm/firmware-code") is None
    assert WORKLOAD.of_kind("image") == WORKLOAD.artifacts
    assert WORKLOAD.of_kind("definition") == ()


def test_a_vmm_image_that_nobody_measures_is_refused() -> None:
    image = Artifact(name="vmm/image", kind="vmm-image", fsverity=B, length=4096).members()
    why = "does not name a VMM image that the release brings"
    refused(PLATFORM, why, artifacts=[image])
    refused(WORKLOAD, why, artifacts=[image])
