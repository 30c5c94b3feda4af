# SPDX-License-Identifier: Apache-2.0
"""What every refusal of a VM's start must show: its exit code, its checks, its record, and that nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from agent.errors import AgentSaid
from documents.audit import AuditRecord
from documents.errors import Exit
from lab.world import VM_NAME, World


@contextmanager
def unchanged(world: World, *besides: str) -> Iterator[None]:
    """Require that a block leaves all of ``lab.world.State`` as it was, but for the attributes ``besides``."""
    before = asdict(world.state())
    yield
    after = asdict(world.state())
    changed = [name for name in before if name not in besides and before[name] != after[name]]
    assert not changed, {name: (before[name], after[name]) for name in changed}


def refused_by_agent(world: World, name: str = VM_NAME) -> list[tuple[str, str]]:
    """Try ``vmgate vm start`` and require the gate's refusal; returns check and subject of what failed."""
    count = len(world.trail())
    with pytest.raises(AgentSaid) as refusal:
        world.ask("vm/start", name=name)
    said = refusal.value.line()
    assert refusal.value.status == Exit.REFUSED, said
    assert said.startswith(f"error[AG010]: {name} was not started; "), said
    failed = _recorded(world, count, said, name)
    assert world.vm_state(name) == "shut off", world.vm_state(name)
    return failed


def refused_by_libvirt(world: World, *command: str, name: str = VM_NAME) -> list[tuple[str, str]]:
    """Try a command of virsh and require the gate's refusal in its error; returns what failed."""
    count = len(world.trail())
    done = world.virsh(*command)
    assert done.returncode != 0, f"virsh {command} worked"
    assert f"error[AG010]: {name} was not started; " in done.stderr, done.stderr
    return _recorded(world, count, done.stderr, name)


def _recorded(world: World, count: int, said: str, name: str) -> list[tuple[str, str]]:
    """Require one new record, that of the refusal, which tells the same check as verdict and error."""
    failed = world.failures(name)
    records = world.trail()[count:]
    refusals = [record for record in records if (record.event, record.outcome) == ("vm-start", "refused")]
    assert len(records) == 1, records
    assert records == refusals
    details = dict(refusals[0].details)
    check, subject = details["check"], details["component"]
    assert refusals[0].subject == name
    assert (check, subject) == failed[0], refusals
    assert f"{check} of {subject}: expected {details['expected']}, found {details['found']}" in said, said
    return failed


def newest(world: World, event: str) -> AuditRecord:
    """The newest record of an event."""
    return [record for record in world.trail() if record.event == event][-1]
