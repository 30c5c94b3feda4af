# SPDX-License-Identifier: Apache-2.0
"""What of a host is vmgate's, and that a retirement which is cut off anywhere is completed by the same call.

libvirt and the TPM are stand-ins that fail when told; the real ones are in ``tests/integration/test_retire.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.audit import AuditTrail, records
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.retire import Retirement, require_off, require_set_up
from agent.retire_look import Belongings, look
from agent.setup import hook_bytes, prepare
from agent.vm_errors import VmRuns
from documents.host_networks import HostNetwork, HostNetworks
from documents.host_state import WrappedVmKey
from hypervisor.errors import LibvirtAway
from hypervisor.libvirt import Domain, Hypervisor
from hypervisor.variables import variables_of
from measure.tpm import Tpm

UUID = "3e2d9c1a-5b7f-4d21-8c3e-0123456789ab"
UNITS = "etc/systemd/system"


class Cut(LibvirtAway):
    """What a stand-in fails with."""


class Stand:
    """libvirt and TPM, which do at most so many things.

    Args:
        paths: of the host.
        state: of the VM.
        most: things; then each fails.
    """

    def __init__(self, paths: HostPaths, state: str = "off", most: int = 1_000) -> None:
        self._paths = paths
        self._left = most
        self.known = {"demo": (UUID, f"{paths.vm('demo')}/vars.fd"), "theirs": ("", "/elsewhere/vars.fd")}
        self.state = state
        self.networks = SimpleNamespace(remove=lambda name: self._do("network", name))
        self.done: list[tuple[str, str]] = []

    def _do(self, what: str, name: str) -> None:
        if not self._left:
            raise Cut("it was not done", cause="cut", remedy="again")
        self._left -= 1
        self.done.append((what, name))

    def domains(self) -> tuple[Domain, ...]:
        return tuple(
            Domain(name=name, uuid=uuid, state=self.state, persistent=True, autostart=False)
            for name, (uuid, _) in self.known.items()
        )

    def xml(self, name: str) -> bytes:
        return f"<domain><os><nvram>{self.known[name][1]}</nvram></os></domain>".encode()

    def undefine(self, name: str) -> None:
        self._do("undefine", name)
        del self.known[name]

    def drop_secret(self, uuid: str) -> None:
        self._do("secret", uuid)

    def counter(self) -> int:
        return 7

    def raise_counter(self, least: int) -> int:
        self._do("shut", str(least))
        return least

    def hand_back(self) -> None:
        self._do("tpm", "")


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path)
    for folder in (made.vm("demo") / "disks", made.vms / f"old@{UUID}", made.store, made.audit, made.sealed_key.parent):
        folder.mkdir(parents=True)
    (tmp_path / UNITS / "multi-user.target.wants").mkdir(parents=True)
    made.anchor.write_bytes(b"anchor")
    made.sealed_key.write_bytes(b"sealed")
    made.ak.write_bytes(b"ak")
    made.baseline.write_bytes(b"baseline")
    key = WrappedVmKey(uuid=UUID, guardian="tpm", nonce=bytes(12), ciphertext=bytes(48)).encode()
    made.wrapped_key("demo").write_bytes(key)
    made.wrapped_key(f"old@{UUID}").write_bytes(key)
    network = HostNetwork(name="lab", kind="peers")
    made.networks.write_bytes(HostNetworks(seed="ab" * 32, networks=(network,)).encode())
    (tmp_path / "hook").write_bytes(hook_bytes())
    return made


def seen(paths: HostPaths, stand: Stand, **more: str) -> Belongings:
    return look(paths, paths.root / "hook", cast(Hypervisor, stand), **more)


def retire(paths: HostPaths, stand: Stand) -> Any:
    audit = AuditTrail(paths.audit, lambda: 0, "5c0ffee0-1ab0-4e57-8b3d-0123456789ab")
    work = Retirement(paths, cast(Hypervisor, stand), cast(Tpm, stand), audit, None, states=paths.root / "states")
    return work.run(seen(paths, stand))


def keys(paths: HostPaths) -> Iterator[Path]:
    return paths.state.rglob("key-*.json")


def test_what_is_vmgates_is_found_by_where_it_lies_and_what_it_holds(paths: HostPaths) -> None:
    unit = paths.root / UNITS / "vmgate.service"
    unit.write_bytes(files("agent").joinpath("units", "vmgate.service").read_bytes())
    changed = paths.root / UNITS / "vmgate-update.timer"
    changed.write_bytes(b"[Timer]\nOnCalendar=never\n")
    for name in (unit.name, changed.name, "other.service"):
        (unit.parent / "multi-user.target.wants" / name).symlink_to(f"../{name}")
    (unit.parent / "soft-reboot.target").symlink_to("/dev/null")
    found = seen(paths, Stand(paths))
    assert [domain.name for domain in found.domains] == ["demo"]
    assert found.keys == (("demo", UUID), (f"old@{UUID}", UUID))
    assert found.networks == ("vmgate-lab",)
    enabled = unit.parent / "multi-user.target.wants/vmgate.service"
    assert found.files == (enabled, paths.root / "hook", unit, unit.parent / "soft-reboot.target")
    assert found.left == (changed,), "somebody's own"
    assert found.state == ("networks.json", "root.json", "store", "vms")


def test_another_hook_stays_and_the_active_releases_goes(paths: HostPaths) -> None:
    from content.fsverity import digest_bytes

    hook = paths.root / "hook"
    hook.write_bytes(b"#!/bin/sh\n")
    assert seen(paths, Stand(paths)).left == (hook,)
    assert seen(paths, Stand(paths), hook_digest=digest_bytes(b"#!/bin/sh\n")).files == (hook,)
    hook.write_bytes(b"x" * 200_000)
    assert seen(paths, Stand(paths)).left == (hook,)


def test_no_more_than_one_word_for_variables_and_no_other_xml_is_believed() -> None:
    assert variables_of(b"<domain><os><nvram>/a</nvram></os></domain>") == "/a"
    for xml in (
        b"", b"<domain/>", b"<domain><os><nvram/></os></domain>",
        b"<domain><os><nvram>/a</nvram><nvram>/b</nvram></os></domain>",
        b"<domain><os><nvram type='network'>/a</nvram></os></domain>", b"<network><os><nvram>/a</nvram></os></network>",
    ):  # fmt: skip
        assert variables_of(xml) == ""


def test_while_a_vm_runs_nothing_is_done(paths: HostPaths) -> None:
    stand = Stand(paths, state="running")
    with pytest.raises(VmRuns, match="demo"):
        retire(paths, stand)
    assert not stand.done
    assert paths.anchor.exists()
    assert not list(records(paths.audit))


def test_it_goes_keys_first_and_leaves_the_trail(paths: HostPaths) -> None:
    stand = Stand(paths)
    done = retire(paths, stand)
    assert [what for what, _ in stand.done] == ["shut", "secret", "undefine", "network", "tpm"]
    assert stand.done[0] == ("shut", "8"), "a key that cannot be read is shut out as well"
    assert set(stand.known) == {"theirs"}
    assert sorted(path.name for path in paths.state.iterdir()) == ["audit", "tpm"]
    assert [path.name for path in paths.ak.parent.iterdir()] == ["ak.pub"]
    assert done.unsigned
    assert done.head.sequence == len(list(records(paths.audit)))
    with pytest.raises(NotReady, match="not set up"):
        require_set_up(paths)


@pytest.mark.parametrize("most", range(5))
def test_cut_anywhere_it_is_no_host_any_more_and_the_next_call_completes_it(paths: HostPaths, most: int) -> None:
    stand = Stand(paths, most=most)
    with suppress(Cut):
        retire(paths, stand)
    assert not paths.anchor.exists()
    assert paths.retiring.exists()
    assert list(keys(paths)) == [] or most == 0, "without the TPM's word the keys wait, and then go first"
    with pytest.raises(NotReady, match="retirement was cut off"):
        prepare(paths, b"", None)
    assert [r.outcome for r in records(paths.audit) if r.event == "host-retire"] == ["started", "failed"]
    again = Stand(paths)
    again.known = stand.known
    retire(paths, again)
    assert sorted(path.name for path in paths.state.iterdir()) == ["audit", "tpm"]
    assert set(again.known) == {"theirs"}
    assert not (paths.root / "hook").exists()


def test_libvirt_that_does_not_answer_stops_it(paths: HostPaths) -> None:
    stand = Stand(paths)

    def away() -> tuple[Domain, ...]:
        raise LibvirtAway("libvirt does not answer", cause="off", remedy="start it")

    stand.domains = away  # type: ignore[method-assign]
    with pytest.raises(LibvirtAway):
        seen(paths, stand)


def test_what_runs_is_named() -> None:
    with pytest.raises(VmRuns, match="these VMs run: a, b"):
        require_off(cast(Belongings, SimpleNamespace(running=("a", "b"))))
