# SPDX-License-Identifier: Apache-2.0
"""What a start costs of the TPM, counted in the log of a real one: a chip takes 5 to 20 ms for each command."""

from __future__ import annotations

import json
import os
import subprocess

from agent.audit_key import verify_signed_head
from agent.paths import HostPaths
from lab.publisher import VMGATE
from lab.world import VM_NAME, World

START = ["PCR_Read", "PCR_Extend", "PCR_Extend"]
"""The registers are read; then the start, and that the VM's key is gone, are measured."""


def restarted(world: World) -> None:
    world.host.stop_agent()
    world.host.start_agent()


def start(world: World) -> list[str]:
    """Start the VM and switch it off; the commands until it ran."""
    before = len(world.host.tpm.commands())
    world.run("vm", "start", VM_NAME)
    found = world.host.tpm.commands()[before:]
    world.kill_vm()
    return found


def test_a_start_takes_three_commands_of_the_tpm(world: World) -> None:
    restarted(world)
    assert start(world) == START, "the first one after the agent came up"
    assert start(world) == START, "and any other"


def test_a_refused_start_takes_one(world: World) -> None:
    restarted(world)
    good = world.stored("image").read_bytes()
    try:
        world.stored("image").write_bytes(bytes([good[0] ^ 1]) + good[1:])
        before = len(world.host.tpm.commands())
        assert world.host.vmgate("vm", "start", VM_NAME).exit == 5
        assert world.host.tpm.commands()[before:] == ["PCR_Read"]
    finally:
        world.stored("image").write_bytes(good)


def test_a_stop_takes_one(world: World) -> None:
    restarted(world)
    world.run("vm", "start", VM_NAME)
    before = len(world.host.tpm.commands())
    world.run("vm", "kill", VM_NAME)
    assert world.host.tpm.commands()[before:] == ["PCR_Extend"]


def test_the_head_of_the_trail_is_signed_once_for_several_starts(world: World) -> None:
    restarted(world)
    before = len(world.host.tpm.commands())
    for _ in range(2):
        start(world)
    assert "Sign" not in world.host.tpm.commands()[before:], "no start waited for it"
    world.host.stop_agent()
    signed = verify_signed_head(HostPaths(world.root))
    assert world.host.tpm.commands()[before:].count("Sign") == 1
    assert signed is not None
    assert signed.sequence == world.trail()[-1].sequence
    world.host.start_agent()


def test_the_log_of_this_boot_is_given_in_both_forms_and_leads_to_the_registers(world: World) -> None:
    start(world)
    found = {}
    for form in ("cel", "cbor"):
        command = [VMGATE, "measure", "log", "-o", form]
        environment = os.environ | {"VMGATE_ROOT": str(world.root)}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        path = world.folder / f"log.{form}"
        path.write_bytes(done.stdout)
        found[form] = json.loads(world.run("measure", "replay", path, "-o", "json"))
        path.unlink()
    assert found["cel"].pop("format") == "cel-json"
    assert found["cbor"].pop("format") == "cel-cbor"
    assert found["cel"] == found["cbor"]
    for shown in world.ask("measure/show")["pcrs"]:
        assert found["cbor"]["pcrs"][shown["bank"]][str(shown["pcr"])] == shown["value"]
