# SPDX-License-Identifier: Apache-2.0
"""What ``vmgate vm why`` prints of a finding."""

from __future__ import annotations

import pytest

from documents.verdict import KEPT, Finding
from vmgate.commands.vm import draw_verdict, found_text


@pytest.mark.parametrize(
    ("kept", "taken", "told"),
    [
        ("", "", "sha256:ab"),
        ("nothing", "", "sha256:ab (kept by nothing)"),
        ("root-only store", "memory", "sha256:ab (kept by root-only store, read earlier in this boot)"),
        ("fs-verity", "kernel", "sha256:ab (kept by fs-verity, told by the kernel)"),
    ],
)
def test_a_digest_is_told_with_what_keeps_it(kept: str, taken: str, told: str) -> None:
    finding = Finding(
        check="image", subject="disk system", outcome="pass", expected="sha256:ab", found="sha256:ab", kept=kept,
        taken=taken,
    )  # fmt: skip
    assert found_text(finding.members()) == told


@pytest.mark.parametrize("kept", KEPT)
def test_a_verdict_shows_it(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding(check="image", subject="disk", outcome="pass", expected="x", found="x", kept=kept)
    verdict = {"subject": "vm", "status": "affirming", "level": "L2", "time": 0, "findings": [finding.members()]}
    draw_verdict(verdict, "")
    assert f"(kept by {kept})" in " ".join(capsys.readouterr().out.split())
