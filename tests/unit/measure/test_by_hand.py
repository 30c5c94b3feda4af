# SPDX-License-Identifier: Apache-2.0
"""What the measurement guide tells a third party to do, done: its own lines of Python, with nothing of vmgate's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.boot_logs import MACHINE
from lab.measuring import booted, launch, local, logged, platform, started, stopped, switched
from measure.cel import encode_record, replay
from measure.pcr import LAUNCH_PCR, VMM_PCR
from measure.predict import vmm_pcr_fresh

GUIDE = Path(__file__).parents[3] / "docs/guide/measurement.md"
ONE = platform(1)
TWO = platform(2, predecessors=(ONE,))


def told(name: str) -> Callable[..., Any]:
    """The function of that name in the guide."""
    (block,) = (
        text for text in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if f"def {name}(" in text
    )
    assert set(re.findall(r"^import (.*)$", block, re.MULTILINE)) == {"hashlib, json"}
    scope: dict[str, Any] = {}
    exec(block, scope)
    found: Callable[..., Any] = scope[name]
    return found


@pytest.mark.parametrize("release", [ONE, TWO])
def test_the_vmm_pcr_follows_from_the_release_alone(release: Any) -> None:
    value = told("vmm_pcr")(release.encode())
    assert value == vmm_pcr_fresh(release.reference)
    assert value in {dict(policy.pcrs)[VMM_PCR] for policy in release.policies if policy.entry == "fresh"}


def test_the_launch_pcr_follows_from_the_log() -> None:
    events = [*booted(ONE), *local(MACHINE), started("desk", 1), *switched(TWO), launch("key-drop", "desk", "0" * 64)]
    records = logged([*events, stopped("desk", 1)])
    log = b"".join(map(encode_record, records))
    assert {pcr: told("pcr_of_log")(log, pcr) for pcr in (LAUNCH_PCR, VMM_PCR)} == {
        pcr: value.hex() for pcr, value in replay(records, "sha256").items()
    }
    switch = {dict(policy.pcrs)[VMM_PCR] for policy in TWO.policies if policy.entry == "switch"}
    assert switch == {told("pcr_of_log")(log, VMM_PCR)}


def test_a_log_that_was_edited_is_found_by_hand() -> None:
    log = b"".join(map(encode_record, logged([*booted(ONE), started("desk", 1)])))
    with pytest.raises(AssertionError):
        told("pcr_of_log")(log.replace(b'"subject":"desk"', b'"subject":"lab"'), LAUNCH_PCR)
