# SPDX-License-Identifier: Apache-2.0
"""A verifier that asks for a second word: the releases' reference values must stand in a CoRIM that it trusts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from documents.errors import VmgateError
from documents.verdict import Finding
from fleet.verifier import Expected, answer
from lab.boot_logs import IMAGE, MACHINE
from lab.corims import CorimKey
from lab.measuring import POLICY, booted, digest, platform, with_policy, workload
from lab.proving import KNOWN, NOW, boot, evidence, verified
from measure.corim import Environment, encode_corim, environment, sign_corim
from vmgate.errors import UsageError

STRICT = replace(POLICY, allow=())
RELEASE = with_policy(platform(1, image=IMAGE), STRICT)
GOOD = evidence(verified(MACHINE, [*booted(RELEASE), *boot(1)]), MACHINE).encode()
WHOLE, PART = environment(RELEASE, IMAGE), environment(RELEASE)


def judged(*sets: Environment) -> tuple[str, list[Finding]]:
    expected = Expected(
        releases=(RELEASE.encode(), workload(1, "desk").encode()),
        anchor=None,
        policy=STRICT.encode(),
        image=IMAGE.encode(),
        endorsed=sets,
    )
    found = answer(GOOD, expected, replace(KNOWN, chip=True), NOW, build="1").judged
    if found.verdict.failures():
        with pytest.raises(VmgateError):
            found.require_trusted(NOW)
    return found.verdict.status, [f for f in found.verdict.findings if f.subject.startswith("corim ")]


@pytest.mark.parametrize("told", [WHOLE, PART])
def test_a_host_is_affirmed_if_the_corim_names_the_same_values(told: Environment) -> None:
    another = replace(WHOLE, number=7)
    status, (finding,) = judged(another, told)
    assert (status, finding.outcome, finding.subject) == ("affirming", "pass", "corim platform/1")


def test_without_a_set_for_the_release_nobody_is_trusted() -> None:
    for sets in ((), (replace(WHOLE, number=2),), (replace(WHOLE, channel="other"),)):
        status, (finding,) = judged(*sets)
        assert (status, finding.outcome, finding.found) == ("contraindicated", "fail", "no values for this release")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (replace(WHOLE, components=WHOLE.components[:-1]), "components"),
        (replace(WHOLE, registers=WHOLE.registers[:1]), "registers"),
        (replace(WHOLE, boot=(*WHOLE.boot[:-1], ("authority", digest("x")))), "boot"),
        (replace(WHOLE, files=WHOLE.files[1:]), "files"),
        (replace(PART, components=PART.components[::-1]), "components"),
    ],
)
def test_a_value_that_is_another_one_is_a_no_that_names_its_part(changed: Environment, named: str) -> None:
    status, (finding,) = judged(changed)
    assert (status, finding.found) == ("contraindicated", f"other {named}")


def test_a_corim_counts_with_its_key_alone(tmp_path: Path) -> None:
    from vmgate.commands.attest import _endorsed

    key, stranger = CorimKey(seed=1), CorimKey(seed=2)
    corim, public, other = tmp_path / "corim", tmp_path / "public", tmp_path / "other"
    corim.write_bytes(sign_corim(encode_corim([WHOLE]), key.private, "tests"))
    public.write_bytes(key.public)
    other.write_bytes(stranger.public)
    assert _endorsed(corim, public) == (WHOLE,)
    assert _endorsed(None, None) is None
    for one in ((corim, None), (None, public)):
        with pytest.raises(UsageError):
            _endorsed(*one)
    with pytest.raises(VmgateError):
        _endorsed(corim, other)
