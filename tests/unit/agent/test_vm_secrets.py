# SPDX-License-Identifier: Apache-2.0
"""A secret that libvirt does not take in time is no start, and what libvirt does with it after all is undone."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import pytest

from agent import vm_secrets
from agent.plan import VmPlan
from agent.vm_errors import LibvirtLate
from agent.vm_secrets import VmSecrets
from hypervisor.errors import HypervisorError

GUARD = 60


class Named:
    """What of a VM's plan is asked for here."""

    class definition:  # noqa: N801 (as the plan has it)
        name = "hello"
        uuid = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21"

    class placement:  # noqa: N801
        vtpm_secret = "7d1a2b64-52a1-4e0c-9a3a-6b8c1e0f4d21"
        disk_secrets: Mapping[str, str] = MappingProxyType({})


VM = cast("VmPlan", Named)


class Libvirt:
    """A libvirt that answers when a test lets it."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.dropped = threading.Event()
        self.did: list[str] = []
        self.broken = False

    def set_secret(self, *_: object) -> None:
        self.free.wait(GUARD)
        if self.broken:
            raise HypervisorError("x", cause="broken", remedy="mend it")
        self.did.append("set")

    def drop_secret(self, *_: object) -> None:
        self.free.wait(GUARD)
        self.did.append("drop")
        self.dropped.set()


@pytest.fixture
def libvirt(monkeypatch: pytest.MonkeyPatch) -> Libvirt:
    monkeypatch.setattr(vm_secrets, "ANSWER_SECONDS", 0.2)
    return Libvirt()


def _secrets(libvirt: Libvirt, dropped: list[str]) -> VmSecrets:
    return VmSecrets(cast("Any", libvirt), threading.RLock(), lambda vm: dropped.append(vm.definition.name))


def test_a_secret_that_is_late_is_no_start_and_does_not_stay(libvirt: Libvirt) -> None:
    dropped: list[str] = []
    secrets = _secrets(libvirt, dropped)
    with pytest.raises(LibvirtLate, match="did not take or drop its key"):
        secrets.give(VM, b"key")
    libvirt.free.set()
    assert libvirt.dropped.wait(GUARD)
    assert libvirt.did == ["set", "drop"]
    secrets.drop("hello")
    assert dropped == ["hello"], "it was known all the time"


def test_a_drop_that_is_late_is_told_and_tried_again(libvirt: Libvirt) -> None:
    dropped: list[str] = []
    secrets = _secrets(libvirt, dropped)
    libvirt.free.set()
    secrets.give(VM, b"key")
    libvirt.free.clear()
    with pytest.raises(LibvirtLate):
        secrets.drop("hello")
    assert dropped == []
    libvirt.free.set()
    secrets.drop_all()
    assert dropped == ["hello"]


def test_what_libvirt_says_is_told(libvirt: Libvirt) -> None:
    libvirt.free.set()
    libvirt.broken = True
    with pytest.raises(HypervisorError, match="broken"):
        _secrets(libvirt, []).give(VM, b"key")
