# SPDX-License-Identifier: Apache-2.0
"""A whole host whose publisher only wants to be warned about one component, and verdicts that do not count for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from documents.verdict import Verdict
from lab.publisher import Desk
from lab.refusal import refused_by_agent, unchanged
from lab.world import VM_NAME, World, copied, laid_over, living, serving

POLICY = 'warn_only = ["vmgate/hook"]\nverdict_seconds = 60\n'


@pytest.fixture(scope="module")
def world(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    publisher.release(publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=POLICY))
    with serving(publisher.repository) as url, living("warned", publisher, url) as world:
        world.run("update", "apply")
        yield world


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


def _verdict(world: World) -> Verdict:
    return Verdict.parse((world.state_folder / "vms" / VM_NAME / "verdict.json").read_bytes())


def test_a_changed_component_that_only_warns_lets_the_vm_start_and_is_named(world: World) -> None:
    hook = world.libvirt.hook
    with laid_over(hook, hook.read_bytes() + b"\n# changed\n", world.folder):
        assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
        verdict = _verdict(world)
        (warned,) = [f for f in verdict.findings if (f.check, f.outcome) == ("component-now", "warn")]
        assert warned.subject == "vmgate/hook"
        assert verdict.expires == verdict.time + 60
        why = world.run("vm", "why", VM_NAME)
        assert "vmgate/hook" in why
        world.kill_vm()


def test_every_other_component_is_enforced(world: World) -> None:
    code = world.stored("firmware-code")
    with unchanged(world), laid_over(code, code.read_bytes() + b"\n", world.folder):
        assert ("component-now", "vmm/firmware-code") in refused_by_agent(world)
