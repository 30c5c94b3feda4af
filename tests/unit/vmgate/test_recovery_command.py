# SPDX-License-Identifier: Apache-2.0
"""What ``vmgate recovery`` makes of the copies that the agent hands out. The whole command is in the host's story."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import CopyUnknown
from documents.errors import Exit
from keys.recovery import recovery_key, wrap
from vmgate.commands.recovery import _chosen, _tried
from vmgate.errors import UsageError

PRIVATE = ec.generate_private_key(ec.SECP256R1())
UUID = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ab"
COPY = wrap(recovery_key(PRIVATE, 0), UUID, bytes(32), os.urandom).encode().decode()


def vm(name: str, **members: Any) -> dict[str, Any]:
    """One VM as the agent tells it."""
    return {"name": name, "uuid": UUID, "guarded": True, "started": True, "copy": COPY, "problem": ""} | members


@pytest.mark.parametrize(
    ("found", "opens", "said"),
    [
        (vm("desk"), True, "opens"),
        (vm("desk", uuid=UUID[:-1] + "c"), False, "DOES NOT OPEN: it is another VM's, or was changed"),
        (vm("desk", copy=""), False, "NO COPY"),
        (vm("desk", copy="", started=False), False, "no copy: it was never started"),
        (vm("desk", copy="", problem="older (AG131)"), False, "older (AG131)"),
        (vm("desk", copy="", guarded=False), False, "its definition does not name the guardian"),
        (vm("desk", copy="{}"), False, "DOES NOT OPEN: "),
    ],
)
def test_each_copy_is_tried(found: dict[str, Any], opens: bool, said: str) -> None:
    result = _tried(PRIVATE, found)
    assert result[0] is opens
    assert result[1].startswith(said)


def test_one_bad_copy_stops_all_unless_others_are_named() -> None:
    good, bad, none = vm("good"), vm("bad", copy="", problem="older (AG131)"), vm("none", copy="")
    with pytest.raises(CopyUnknown, match="bad: older") as said:
        _chosen([good, bad, none], ())
    assert said.value.exit == Exit.REFUSED
    assert _chosen([good, bad, none], ("good",)) == [good]
    assert _chosen([good, none], ()) == [good], "what has no copy is lost, and keeps nobody else off"
    with pytest.raises(CopyUnknown, match="none: it has no copy"):
        _chosen([good, none], ("good", "none"))
    with pytest.raises(UsageError, match="no VM 'other'"):
        _chosen([good], ("other",))
