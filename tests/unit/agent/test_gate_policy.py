# SPDX-License-Identifier: Apache-2.0
"""The host's own gate follows the signed policy: what only warns, and for how long its verdict counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agent.components import Component
from agent.gate import Gate
from agent.host import Host
from agent.platform import Platform
from agent.prover import Prover
from content.measuring import Digester
from content.store import ContentStore
from documents.host_state import Generation
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import VERDICT_SECONDS
from lab.measuring import POLICY, digest, platform, with_policy

NOW = 1_800_000_000
HOOK = "vmgate/hook"
WARNED = replace(POLICY, warn_only=(HOOK,), verdict_seconds=60)


class Changed:
    """A VMM of which some components have another digest now."""

    def __init__(self, *changed: str) -> None:
        self._changed = changed

    def find(self, release: Release, digester: Digester | None = None) -> tuple[Component, ...]:
        return tuple(
            Component(name=v.component, fsverity=digest("changed") if v.component in self._changed else v.fsverity)
            for v in release.reference
        )


def host(folder: Path, policy: SecurityPolicy, *changed: str, stored: bool = True) -> tuple[Platform, Release]:
    """A platform whose store holds the policy, and its release."""
    release = with_policy(platform(1), policy)
    artifacts = tuple(
        replace(a, length=len(policy.encode())) if a.kind == "security-policy" else a for a in release.artifacts
    )
    store = ContentStore(folder)
    if stored:
        (artifact,) = (a for a in artifacts if a.kind == "security-policy")
        path = folder / artifact.fsverity[:2] / artifact.fsverity
        path.parent.mkdir(parents=True)
        path.write_bytes(policy.encode())
    outside = SimpleNamespace(
        tpm=None, anchor=SimpleNamespace(identity=""), paths=SimpleNamespace(settings=folder / "none"), clock=None
    )
    made = Platform(
        cast("Any", outside), cast("Any", None), cast("Any", None), cast("Any", Changed(*changed)), store, tuple,
        cast("Any", SimpleNamespace(local=None, baselines=None, continuity=None, kexec=None)),
    )  # fmt: skip
    return made, replace(release, artifacts=artifacts)


def outcomes(made: tuple[Platform, Release]) -> dict[str, str]:
    found, release = made
    return {f.subject: f.outcome for f in found.recheck(release) if f.outcome != "pass"}


def test_what_changed_since_the_boot_warns_or_fails_as_the_policy_says(tmp_path: Path) -> None:
    assert outcomes(host(tmp_path / "1", WARNED, HOOK)) == {HOOK: "warn"}
    assert outcomes(host(tmp_path / "2", POLICY, HOOK)) == {HOOK: "fail"}
    assert outcomes(host(tmp_path / "3", WARNED, HOOK, "vmm/host-files")) == {HOOK: "warn", "vmm/host-files": "fail"}


def test_without_its_policy_everything_is_enforced(tmp_path: Path) -> None:
    assert outcomes(host(tmp_path, WARNED, HOOK, stored=False)) == {HOOK: "fail"}


def test_the_verdict_of_the_gate_expires_when_the_policy_says(tmp_path: Path) -> None:
    found, release = host(tmp_path, WARNED)
    generation = Generation(number=1, releases=(release.encode(),), stale=False)
    gate = Gate(found, cast("Any", None), cast("Any", None), lambda: NOW, cast("Any", None))
    # It cannot judge without a TPM, and that is a no which counts as long as any other.
    nobody = gate.judge("desk", b"", None)
    assert (nobody.plan, nobody.verdict.status, nobody.verdict.expires) == (
        None, "contraindicated", NOW + VERDICT_SECONDS
    )  # fmt: skip
    assert gate._verdict_seconds(generation) == 60


def asked_of(host: object) -> frozenset[str]:
    """What evidence of a host has besides what it always has."""
    nothing = cast("Any", None)
    return Prover(nothing, nothing, nothing, nothing, lambda: Host._asked_by(cast("Any", host)), nothing).asked()


def test_a_host_tells_what_its_policy_asks_for_and_nothing_where_it_has_none(tmp_path: Path) -> None:
    asking = replace(POLICY, collect=("boot_log",))
    for number, (policy, stored, asked) in enumerate(
        ((POLICY, True, set()), (asking, True, {"boot_log"}), (asking, False, set()))
    ):
        found, release = host(tmp_path / str(number), policy, stored=stored)
        generation = Generation(number=1, releases=(release.encode(),), stale=False)
        whole = SimpleNamespace(
            generation=lambda given=generation: given, _policy=lambda of, it=found: it.policy(of.platform)
        )
        assert asked_of(whole) == asked
    assert asked_of(SimpleNamespace(generation=lambda: None)) == frozenset()
