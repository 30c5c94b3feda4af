# SPDX-License-Identifier: Apache-2.0
"""The recovery key on a real swtpm: a TPM that was cleared, a state folder on another host, cuts, and attacks.

The private half is used here as the command uses it; the agent's part gets VM keys alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import tpm2_pytss as tss
from cryptography.hazmat.primitives.asymmetric import ec

from agent.audit import records
from agent.audit_key import verify_signed_head
from agent.errors import CopyUnknown, NotFound, RecoveryKeyThere
from agent.recovery_copies import digest
from content import durable, effects
from content.errors import ContentError
from documents.definition import GUARDIANS, Disk, VmDefinition
from documents.errors import VmgateError
from documents.host_state import WrappedVmKey
from documents.recovery import RecoveredKey, RecoveredKeys
from keys import recovery
from keys.errors import CopyRefused, RecoveryKeyOther, RecoveryKeyUnknown
from lab.fuse import cuts
from lab.measuring import platform
from lab.sealed_host import SealedHost
from measure.errors import KeyRefused, NotForThisTpm, SealShut

ONE = platform(1, epochs=(0, 1))
OURS = ec.generate_private_key(ec.SECP256R1())
NEXT = ec.generate_private_key(ec.SECP256R1())
SITE = recovery.recovery_key(OURS, 7)
ADMIN = "command of root (uid 0)"


def _vm(name: str, last: str, guardians: tuple[str, ...] = GUARDIANS) -> VmDefinition:
    return VmDefinition(
        name=name,
        uuid=f"b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e{last}",
        title="",
        machine="pc-q35-7.2",
        vcpus=1,
        memory_mib=64,
        disks=(Disk(name="system", image="11" * 32, length=1, disk_class="readonly"),),
        guardians=guardians,
    )


DESK, MAIL, PLAIN = _vm("desk", "01"), _vm("mail", "02"), _vm("plain", "03", ("tpm",))


class Site:
    """A host with three VMs that have started, two of them with the guardian, and a recovery key."""

    def __init__(self, root: Path) -> None:
        self.host = host = SealedHost(root)
        host.start(ONE)
        host.init(ONE)
        host.release, host.definitions = ONE, (DESK, MAIL, PLAIN)
        for definition in host.definitions:
            durable.make_directory(host.paths.vm(definition.name))
        self.secrets = {DESK.name: self.open(DESK), PLAIN.name: self.open(PLAIN)}
        self.installed = host.recovery.install(SITE.encode(), ADMIN)
        self.secrets[MAIL.name] = self.open(MAIL)

    def open(self, definition: VmDefinition) -> str:
        """A start, as far as the VM's key goes."""
        return self.host.keys.open(definition, ONE, self.host.tpm.read_pcrs("sha256", (12, 13)))

    def clear(self) -> None:
        """TPM2_Clear, and the boot after it."""
        self.host.tpm._esys.clear(tss.ESYS_TR.LOCKOUT)
        self.host.boot(ONE)

    def copy(self, definition: VmDefinition) -> WrappedVmKey:
        return WrappedVmKey.parse(self.host.paths.recovery_copy(definition.name).read_bytes())

    def opened(self, private: ec.EllipticCurvePrivateKey = OURS) -> RecoveredKeys:
        """What the command does in its own process."""
        told = self.host.recovery.copies("use", ADMIN)
        recovery.require_same(private, str(told["id"]))
        keys = []
        for vm in json.loads(json.dumps(told["vms"])):
            if vm["problem"]:
                raise CopyUnknown(vm["name"], cause=vm["problem"], remedy="")
            if vm["copy"]:
                copy = WrappedVmKey.parse(vm["copy"].encode())
                key = recovery.unwrap(private, copy, vm["uuid"])
                keys.append(RecoveredKey(uuid=vm["uuid"], copy=digest(copy), key=key))
        return RecoveredKeys(recovery=str(told["id"]), keys=tuple(keys))

    def use(self) -> None:
        self.host.recovery.use(self.opened().encode(), ADMIN)

    def files(self) -> dict[Path, bytes]:
        """All keys on the disk."""
        found = self.host.paths.state.glob("**/*key*.json")
        return {path: path.read_bytes() for path in found}

    def told(self, event: str) -> list[str]:
        return [record.outcome for record in records(self.host.paths.audit) if record.event == event]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "host")
    yield site
    site.host.off()


def refused(site: Site, error: type[VmgateError], act: Callable[[], object]) -> str:
    """What is refused changes no key; its cause."""
    before = site.files()
    with pytest.raises(error) as said:
        act()
    assert site.files() == before
    assert "\n" not in said.value.line()
    return said.value.cause


def test_copies_are_made_at_once_and_at_the_first_start_and_only_where_the_definition_says(site: Site) -> None:
    assert site.installed == {"id": SITE.id, "copied": ["desk"], "failed": []}
    for definition in (DESK, MAIL):
        assert recovery.unwrap(OURS, site.copy(definition), definition.uuid).hex() == site.secrets[definition.name]
    assert not site.host.paths.recovery_copy("plain").exists()
    before = site.files()
    for definition in (DESK, MAIL, PLAIN):
        assert site.open(definition) == site.secrets[definition.name]
    assert site.files() == before, "and made once"
    assert site.told("recovery-copy") == ["started", "done"] * 2
    assert site.told("recovery-key") == ["started", "done"]
    for secret in site.secrets.values():
        assert secret not in (site.host.paths.audit / "trail.jsonl").read_text()


def test_a_test_is_recorded_and_changes_nothing(site: Site) -> None:
    before = site.files()
    told = json.loads(json.dumps(site.host.recovery.copies("test", ADMIN)))
    assert [(vm["name"], vm["guarded"], bool(vm["copy"]), vm["problem"]) for vm in told["vms"]] == [
        ("desk", True, True, ""),
        ("mail", True, True, ""),
        ("plain", False, False, ""),
    ]
    assert site.files() == before
    assert site.told("recovery-copies") == ["done"]


def test_a_cleared_tpm_and_the_vms_open_again_with_their_old_keys(site: Site) -> None:
    old = site.host.paths.sealed_key.read_bytes()
    copies = {path: text for path, text in site.files().items() if path.name == "key-recovery.json"}
    site.clear()
    for definition in (DESK, MAIL, PLAIN):
        with pytest.raises(NotForThisTpm) as said:
            site.open(definition)
        assert "`vmgate recovery use FILE`" in said.value.remedy
    site.use()
    for definition in (DESK, MAIL):
        assert site.open(definition) == site.secrets[definition.name]
    with pytest.raises(KeyRefused):
        site.open(PLAIN)
    assert {path: site.files()[path] for path in copies} == copies
    # What only the TPM of before opens is kept for the day it comes back.
    assert old in [path.read_bytes() for path in site.host.paths.sealed_key.parent.glob("host-key-*.json")]
    site.host.audit_key.sign(ONE)
    assert verify_signed_head(site.host.paths) == site.host.trail.head
    assert site.told("recovery-use") == ["started", "done"]
    # And the same again, after the next clearing.
    site.clear()
    site.use()
    assert site.open(DESK) == site.secrets[DESK.name]


def test_a_state_folder_on_another_host_opens_there(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    shutil.rmtree(other.host.paths.state)
    shutil.copytree(site.host.paths.state, other.host.paths.state)
    other.host.boot(ONE)
    with pytest.raises(NotForThisTpm):
        other.open(DESK)
    other.use()
    assert other.open(DESK) == site.secrets[DESK.name]
    assert other.open(MAIL) == site.secrets[MAIL.name]
    other.host.audit_key.sign(ONE)
    assert verify_signed_head(other.host.paths) == other.host.trail.head
    assert site.open(DESK) == site.secrets[DESK.name], "the old host is as it was"
    other.host.off()


def test_recovery_opens_no_key_in_a_state_that_nobody_signed(site: Site) -> None:
    site.clear()
    site.host.tpm.extend(13, b"rootkit")
    given = site.opened()
    refused(site, SealShut, lambda: site.host.recovery.use(given.encode(), ADMIN))
    assert site.told("recovery-use") == ["started", "failed"]


def test_recovery_makes_no_new_key_where_this_tpm_knows_the_old_one(site: Site) -> None:
    """An untrusted state of the same TPM is no reason to take the key that is sealed out of the way."""
    site.host.tpm.extend(13, b"rootkit")
    given = site.opened()
    refused(site, SealShut, lambda: site.host.recovery.use(given.encode(), ADMIN))
    site.host.boot(ONE)
    assert site.open(DESK) == site.secrets[DESK.name]


def test_the_file_of_another_site_is_refused(site: Site) -> None:
    site.clear()
    refused(site, RecoveryKeyOther, lambda: site.opened(NEXT))
    foreign = replace(site.opened(), recovery=recovery.recovery_key(NEXT, 0).id)
    refused(site, RecoveryKeyOther, lambda: site.host.recovery.use(foreign.encode(), ADMIN))
    assert site.told("recovery-use") == []


def test_a_copy_swapped_between_vms_is_refused(site: Site) -> None:
    site.clear()
    given = site.opened()
    desk, mail = (site.host.paths.recovery_copy(name) for name in ("desk", "mail"))
    first, second = desk.read_bytes(), mail.read_bytes()
    desk.write_bytes(second)
    mail.write_bytes(first)
    assert "not the newest" in refused(site, CopyUnknown, site.opened)
    assert "not the newest" in refused(site, CopyUnknown, lambda: site.host.recovery.use(given.encode(), ADMIN))
    # With the UUID written over it neither opens: it is part of what the key is derived from.
    with pytest.raises(CopyRefused):
        recovery.unwrap(OURS, replace(site.copy(DESK), uuid=DESK.uuid), DESK.uuid)


def test_keys_swapped_on_their_way_are_refused(site: Site) -> None:
    site.clear()
    one, two = site.opened().keys
    for bad in ((replace(one, key=two.key),), (replace(one, uuid=two.uuid),), (replace(one, uuid=PLAIN.uuid),)):
        given = RecoveredKeys(recovery=SITE.id, keys=bad)
        refused(site, CopyUnknown, lambda given=given: site.host.recovery.use(given.encode(), ADMIN))  # type: ignore[misc]


def test_an_older_copy_put_back_is_refused_and_one_made_elsewhere_too(site: Site) -> None:
    path = site.host.paths.recovery_copy("desk")
    old = path.read_bytes()
    renewed = site.host.recovery.install(recovery.recovery_key(NEXT, 8).encode(), ADMIN, instead=SITE.id)
    assert renewed["copied"] == ["desk", "mail"]
    newest = path.read_bytes()
    site.clear()
    planted = recovery.wrap(recovery.recovery_key(NEXT, 8), DESK.uuid, os.urandom(32), os.urandom)
    for found in (old, planted.encode()):
        path.write_bytes(found)
        assert "not the newest" in refused(site, CopyUnknown, lambda: site.opened(NEXT))
    path.write_bytes(newest)
    site.host.recovery.use(site.opened(NEXT).encode(), ADMIN)
    assert site.open(DESK) == site.secrets[DESK.name]


def test_a_start_makes_a_changed_or_lost_copy_anew(site: Site) -> None:
    path = site.host.paths.recovery_copy("desk")
    planted = recovery.wrap(SITE, DESK.uuid, os.urandom(32), os.urandom)
    for found in (planted.encode(), b"", b"{}", bytes(10_000)):
        path.write_bytes(found)
        assert site.open(DESK) == site.secrets[DESK.name]
    path.unlink()
    assert site.open(DESK) == site.secrets[DESK.name]
    assert recovery.unwrap(OURS, site.copy(DESK), DESK.uuid).hex() == site.secrets[DESK.name]


def test_a_copy_that_cannot_be_written_keeps_the_vm_off(site: Site) -> None:
    path = site.host.paths.recovery_copy("desk")
    path.unlink()
    rename = effects.rename

    def full(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.ENOSPC, "no space left on device")
        rename(source, target)

    with patch.object(effects, "rename", full):
        refused(site, ContentError, lambda: site.open(DESK))
    assert site.told("recovery-copy")[-2:] == ["started", "failed"]
    assert site.open(DESK) == site.secrets[DESK.name]


def test_a_recovery_key_put_on_the_disk_gets_no_copy(site: Site) -> None:
    """Whoever has the disk, but not the host's key, cannot have VM keys wrapped for himself."""
    thief = recovery.seal(recovery.recovery_key(NEXT, 7), os.urandom(32))
    site.host.paths.recovery_key.write_bytes(thief.encode())
    refused(site, RecoveryKeyUnknown, lambda: site.open(DESK))
    assert site.copy(DESK).key == SITE.id


def test_another_recovery_key_takes_the_place_only_by_name(site: Site) -> None:
    other = recovery.recovery_key(NEXT, 8).encode()
    for instead in ("", "0" * 64):
        refused(
            site, RecoveryKeyThere, lambda instead=instead: site.host.recovery.install(other, ADMIN, instead=instead)
        )  # type: ignore[misc]


def test_without_the_host_key_none_is_installed(site: Site) -> None:
    site.host.tpm.extend(13, b"rootkit")
    other = recovery.recovery_key(NEXT, 8).encode()
    refused(site, SealShut, lambda: site.host.recovery.install(other, ADMIN, instead=SITE.id))
    assert site.told("recovery-key")[-2:] == ["started", "failed"]


def test_without_a_recovery_key_there_is_nothing_to_hand_out(site: Site) -> None:
    site.host.paths.recovery_key.unlink()
    refused(site, NotFound, lambda: site.host.recovery.copies("test", ADMIN))


def test_a_lost_key_is_not_made_anew_while_its_copy_waits(site: Site) -> None:
    site.host.paths.wrapped_key("desk").unlink()
    assert "recovery copy" in refused(site, CopyUnknown, lambda: site.open(DESK))
    site.use()
    assert site.open(DESK) == site.secrets[DESK.name]


def test_an_older_key_beside_its_newer_copy_is_not_used(site: Site) -> None:
    kek = site.host.keys.open_host_key(ONE)
    site.host.keys.put(DESK, os.urandom(32), kek)
    assert "of another key" in refused(site, CopyUnknown, lambda: site.open(DESK))


def test_the_way_out_by_hand_does_not_spoil_the_recovery(site: Site) -> None:
    """Somebody did what was the only way without a recovery key, and then found the recovery key."""
    site.clear()
    for path in (site.host.paths.sealed_key, site.host.paths.audit_key, site.host.paths.wrapped_key("mail")):
        path.unlink()
    site.host.confirm(ONE)
    refused(site, KeyRefused, lambda: site.open(DESK))
    assert "recovery copy" in refused(site, CopyUnknown, lambda: site.open(MAIL))
    site.use()
    for definition in (DESK, MAIL):
        assert site.open(definition) == site.secrets[definition.name]


def test_a_key_that_the_counter_shut_out_is_not_replaced(site: Site) -> None:
    """A folder from before a raised epoch: recovery is no way around what this TPM remembers."""
    sealed = site.host.sealed()
    site.host.tpm.raise_counter(sealed.counter + 1)
    site.host.keys.forget()
    given = site.opened()
    assert "past the value" in refused(site, SealShut, lambda: site.host.recovery.use(given.encode(), ADMIN))


def test_a_cut_at_each_step_leaves_what_the_same_command_completes(tmp_path: Path) -> None:
    sites: list[Site] = []

    def ready() -> SealedHost:
        sites.append(Site(tmp_path / str(len(sites))))
        sites[-1].clear()
        return sites[-1].host

    seen = []
    for host, cut in cuts(ready, lambda _: sites[-1].use()):
        site, seen = sites[-1], [*seen, cut]
        copies = {name: host.paths.recovery_copy(name).read_bytes() for name in ("desk", "mail")}
        host.boot(ONE)
        if cut:
            # The old wrap or the new one, and never a key that is not the VM's.
            with suppress(NotForThisTpm, KeyRefused, RecoveryKeyUnknown):
                assert site.open(DESK) == site.secrets[DESK.name]
            site.use()
        for definition in (DESK, MAIL):
            assert site.open(definition) == site.secrets[definition.name]
        assert {name: host.paths.recovery_copy(name).read_bytes() for name in copies} == copies
    assert {"host-key.json is written", "recovery-key.json is written", "key-tpm.json is written"} <= set(seen)


def test_a_cut_at_each_step_of_an_installation_leaves_copies_that_open(tmp_path: Path) -> None:
    sites: list[Site] = []
    other = recovery.recovery_key(NEXT, 8)

    def ready() -> SealedHost:
        sites.append(Site(tmp_path / str(len(sites))))
        return sites[-1].host

    for host, _ in cuts(ready, lambda host: host.recovery.install(other.encode(), ADMIN, instead=SITE.id)):
        site = sites[-1]
        host.boot(ONE)
        installed = host.recovery.show()["id"]
        for definition in (DESK, MAIL):
            copy = site.copy(definition)
            private = OURS if copy.key == SITE.id else NEXT
            assert recovery.unwrap(private, copy, definition.uuid).hex() == site.secrets[definition.name]
            # The next start makes what the cut left out.
            assert site.open(definition) == site.secrets[definition.name]
            assert site.copy(definition).key == installed
        site.clear()
        host.recovery.use(site.opened(NEXT if installed == other.id else OURS).encode(), ADMIN)
        assert site.open(DESK) == site.secrets[DESK.name]
