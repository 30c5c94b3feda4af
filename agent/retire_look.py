# SPDX-License-Identifier: Apache-2.0
"""What of a host is vmgate's: found by looking, so that it is the same before a retirement and after a cut in one.

A domain is vmgate's where its firmware variables lie in a VM's folder; a file that ``init`` wrote, where it still
holds what vmgate, or the active release, has of it. What somebody changed is theirs and is only told. Nothing is
changed here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agent.launch import OFF
from agent.paths import HostPaths
from agent.setup import MAX_HOOK, hook_bytes
from agent.sleep_files import MASKED, NOWHERE, SLEEP
from agent.unit_files import FOLDER, NAMES, POLICY
from content import durable
from content.errors import Missing, TooLarge, storage
from content.fsverity import digest_bytes
from documents.errors import VmgateError
from documents.host_networks import HostNetworks
from documents.host_state import WrappedVmKey
from hypervisor.libvirt import Hypervisor
from hypervisor.networks import libvirt_name
from hypervisor.variables import variables_of

log = logging.getLogger(__name__)

KEPT = ("audit", "audit-sent", "lock", "tpm")
"""What stays in the state folder: the audit trail, and what its last signature is verified by."""

KEPT_KEYS = ("ak.pub", "audit-key.json")
"""What stays of the folder ``tpm``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDomain:
    """A domain of libvirt's that is a VM of vmgate's.

    Attributes:
        name, uuid: of the domain.
        runs: whether it does.
    """

    name: str
    uuid: str
    runs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What is to be handed back.

    Attributes:
        domains: in libvirt.
        keys: name and UUID of each VM that has a key here, also one that was set aside; the folder's name.
        networks: their names in libvirt, each also its filter's.
        files: that ``init`` wrote, and links of systemd's to them.
        left: files in their place that somebody changed.
        state: what goes of the state folder, by name.
    """

    domains: tuple[OwnDomain, ...]
    keys: tuple[tuple[str, str], ...]
    networks: tuple[str, ...]
    files: tuple[Path, ...]
    left: tuple[Path, ...]
    state: tuple[str, ...]

    @property
    def running(self) -> tuple[str, ...]:
        """The VMs that run."""
        return tuple(domain.name for domain in self.domains if domain.runs)

    def told(self) -> tuple[str, ...]:
        """For people, in the order in which it goes."""
        return (
            "the host's sealed key: it opens never again, nor does any copy of it",
            *(f"the key of VM {name} ({uuid})" for name, uuid in self.keys),
            *(f"VM {domain.name} in libvirt, its TPM, variables and disks" for domain in self.domains),
            *(f"network {name} and its filter in libvirt" for name in self.networks),
            *(str(path) for path in self.files),
            *(f"state: {name}" for name in self.state),
            "the attestation key's handle and the counter in the TPM",
        )


def look(paths: HostPaths, hook: Path, hypervisor: Hypervisor, *, hook_digest: str = "") -> Belongings:
    """Look at a host.

    Args:
        paths, hypervisor: of the host.
        hook: where libvirt's hook lies.
        hook_digest: fs-verity digest of the hook that the active release names; empty for none.

    Raises:
        LibvirtAway: nobody can tell what runs.
        ContentError: something cannot be read.
    """
    shipped = [(path, _is_hook(path, hook_digest)) for path in (hook,) if path.exists()]
    shipped += [(path, _holds(path, data)) for path, data in _shipped(paths.root) if path.exists()]
    mask = paths.root / FOLDER / MASKED
    masked = [mask] if mask.is_symlink() and str(mask.readlink()) == NOWHERE else []
    ours = [path for path, same in shipped if same]
    return Belongings(
        domains=tuple(_domains(paths, hypervisor)),
        keys=tuple(_keys(paths)),
        networks=_networks(paths),
        files=(*_enabled(paths.root, ours), *ours, *masked),
        left=tuple(path for path, same in shipped if not same),
        state=_state(paths),
    )


def _domains(paths: HostPaths, hypervisor: Hypervisor) -> Iterator[OwnDomain]:
    for domain in hypervisor.domains():
        variables = variables_of(hypervisor.xml(domain.name))
        if variables and Path(variables).parent.parent == paths.vms:
            yield OwnDomain(name=domain.name, uuid=domain.uuid, runs=domain.state not in OFF)


def _keys(paths: HostPaths) -> Iterator[tuple[str, str]]:
    """Also of folders that were set aside, whose names no VM can have."""
    with storage("the folders of VMs were not listed", paths.vms):
        folders = sorted(path for path in paths.vms.iterdir() if path.is_dir()) if paths.vms.is_dir() else []
    for folder in folders:
        for path in (paths.wrapped_key(folder.name), paths.recovery_copy(folder.name)):
            try:
                yield folder.name, WrappedVmKey.parse(durable.read_file(path, WrappedVmKey.LIMIT)).uuid
            except (Missing, TooLarge):
                continue
            except VmgateError as error:
                log.warning("%s is no key, and goes as it is: %s", path, error)
                continue
            break


def _networks(paths: HostPaths) -> tuple[str, ...]:
    try:
        offered = HostNetworks.parse(durable.read_file(paths.networks, HostNetworks.LIMIT))
    except Missing:
        return ()
    return tuple(libvirt_name(network.name) for network in offered.networks)


def _shipped(root: Path) -> Iterator[tuple[Path, bytes]]:
    units = files("agent").joinpath("units")
    for name in NAMES:
        yield root / FOLDER / name, units.joinpath(name).read_bytes()
    yield root / SLEEP, units.joinpath("sleep.conf").read_bytes()
    yield root / POLICY, units.joinpath(POLICY.name).read_bytes()


def _enabled(root: Path, ours: list[Path]) -> tuple[Path, ...]:
    """What ``systemctl enable`` made for units that go."""
    names = {path.name for path in ours if path.parent == root / FOLDER}
    return tuple(
        sorted(
            link
            for pattern in ("*.wants/*", "*.requires/*")
            for link in (root / FOLDER).glob(pattern)
            if link.name in names and link.is_symlink()
        )
    )


def _is_hook(path: Path, digest: str) -> bool:
    try:
        installed = durable.read_file(path, MAX_HOOK)
    except TooLarge:
        return False
    return installed == hook_bytes() or digest_bytes(installed) == digest


def _holds(path: Path, data: bytes) -> bool:
    try:
        return durable.read_file(path, len(data)) == data
    except TooLarge:
        return False


def _state(paths: HostPaths) -> tuple[str, ...]:
    with storage("the state was not listed", paths.state):
        found = sorted(path.name for path in paths.state.iterdir()) if paths.state.is_dir() else []
    return tuple(name for name in found if name not in KEPT)
