# SPDX-License-Identifier: Apache-2.0
"""A whole small world for tests: a publisher with one release, a repository over HTTP, and hosts that follow it.

``published`` makes the publisher's side once; ``World`` is one host with what tests ask of it. All of it lies below
one folder that QEMU's user may enter. This module asserts nothing about what a test is to find out.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audit import records, verify
from agent.client import call
from documents.audit import AuditRecord
from lab import libvirt_host
from lab.guest_image import cache_folder
from lab.host import Host
from lab.libvirt_host import LibvirtHost
from lab.publisher import VM_NAME, VM_UUID, VMGATE, Desk
from lab.tpm import Manufacturer


@contextmanager
def folder(name: str, above: str = "/var/tmp") -> Iterator[Path]:
    """A folder for the time of a block. Not pytest's: QEMU's user may not enter that."""
    with tempfile.TemporaryDirectory(prefix=f"vmgate-{name}-", dir=above) as path:
        Path(path).chmod(0o755)
        yield Path(path)


def published(below: Path) -> Desk:
    """A publisher who has released a platform and a workload with one VM, once each."""
    desk = Desk(below / "publisher", cache_folder(), hidden=below / "hidden")
    desk.init()
    desk.build_image("1", "hello-1")
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024))
    desk.release(desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 9)))
    return desk


def copied(desk: Desk, below: Path) -> Desk:
    """The same publisher in another folder, for a module that goes on publishing."""
    copy = Desk(below / "publisher", cache_folder(), hidden=below / "hidden")
    shutil.copytree(desk.folder, copy.folder, dirs_exist_ok=True)
    return copy


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The repository over HTTP; gives its URL."""
    command = [str(VMGATE), "repo", "serve", str(repository), "--port", "0"]
    web = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = web.stdout.readline() if web.stdout else ""
        yield line.split(" at ")[1].strip()
    finally:
        web.terminate()
        web.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a refusal must leave as it was.

    Attributes:
        pcrs: PCR 12 and 13 of the TPM, all banks, as the agent reads them.
        measured: the measurement log of this boot.
        journal, floor, generation: of the update, byte by byte.
        vm: the VM's state in libvirt.
        secrets: UUIDs of the secrets that libvirt holds.
    """

    pcrs: str
    measured: bytes
    journal: bytes
    floor: bytes
    generation: bytes
    vm: str
    secrets: str


class World:
    """One host that follows a publisher: set up, updated, its agent running.

    Args:
        below: its folder.
        desk: the publisher.
        url: of the repository.
        libvirt: private, running.
        settings: more of the host's settings.
        manufacturer: gives the host's TPM a certificate.
    """

    def __init__(
        self,
        below: Path,
        desk: Desk,
        url: str,
        libvirt: LibvirtHost,
        settings: str = "",
        manufacturer: Manufacturer | None = None,
    ) -> None:
        self.folder = below
        self.desk = desk
        self.libvirt = libvirt
        self.host = Host(below / "host", libvirt)
        self.root = self.host.root
        self.state_folder = self.root / "var/lib/vmgate"
        if manufacturer is not None:
            manufacturer.make(self.host.tpm)
        self.host.tpm.start()
        self.run("init", "--anchor", desk.anchor, "--settings", self.host.settings(url, settings))
        libvirt.restart_libvirtd()
        self.host.start_agent()

    def run(self, *arguments: str | Path) -> str:
        """A command of this host that must work; returns what it printed."""
        done = self.host.vmgate(*arguments)
        if done.exit:
            raise RuntimeError(f"vmgate {' '.join(map(str, arguments))} exited {done.exit}: {done.err}")
        return done.out

    def ask(self, verb: str, **arguments: str) -> dict[str, Any]:
        """Ask the agent without the command, which is quicker."""
        return call(self.root / "run/vmgate/agent.sock", verb, "test", **arguments)

    def virsh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What an administrator does past vmgate."""
        return self.libvirt.virsh(*arguments, check=False)

    def vm_state(self, name: str = VM_NAME) -> str:
        """The VM's state, as libvirt has it."""
        return self.virsh("domstate", name).stdout.strip()

    def secrets(self) -> str:
        """What `virsh secret-list` shows; nothing if libvirt holds no secret."""
        return self.virsh("secret-list").stdout.strip()

    def state(self) -> State:
        """What a refusal must leave as it was."""
        measured = b"".join(path.read_bytes() for path in sorted((self.root / "run/vmgate/measurements").iterdir()))
        return State(
            pcrs=json.dumps(self.ask("measure/show")["pcrs"]),
            measured=measured,
            journal=(self.state_folder / "journal").read_bytes(),
            floor=(self.state_folder / "floor").read_bytes(),
            generation=(self.state_folder / "generations/current/generation.json").read_bytes(),
            vm=self.vm_state(),
            secrets=self.secrets(),
        )

    def events(self) -> list[tuple[int, str, str]]:
        """PCR, event and subject of all that was measured in this boot."""
        return [(r["pcr"], r["event"], r["subject"]) for r in self.ask("measure/log")["records"]]

    def trail(self) -> list[AuditRecord]:
        """The audit trail, after its chain was verified.

        The alarm of many refusals is left out: which of a module's attacks is one too many is not what they are about.
        """
        verify(self.state_folder / "audit")
        return [record for record in records(self.state_folder / "audit") if record.event != "audit-alarm"]

    def failures(self, name: str = VM_NAME) -> list[tuple[str, str]]:
        """Check and subject of what the last verdict for the VM says no to."""
        findings = self.ask("vm/why", name=name)["verdict"]["findings"]
        return [(f["check"], f["subject"]) for f in findings if f["outcome"] == "fail"]

    def generation(self) -> dict[str, int]:
        """The active releases: channel and number."""
        active = json.loads((self.state_folder / "generations/current/generation.json").read_bytes())
        releases = [json.loads(base64.b64decode(release)) for release in active["releases"]]
        return {release["channel"]: release["number"] for release in releases}

    def stored(self, kind: str) -> Path:
        """Where the store has the one active artifact of a kind."""
        active = json.loads((self.state_folder / "generations/current/generation.json").read_bytes())
        (digest,) = {
            artifact["fsverity"]
            for release in active["releases"]
            for artifact in json.loads(base64.b64decode(release))["artifacts"]
            if artifact["kind"] == kind
        }
        return self.state_folder / "store" / digest[:2] / digest

    def kill_vm(self, name: str = VM_NAME) -> None:
        """Switch the VM off, as somebody past vmgate would; off already is fine."""
        self.virsh("destroy", name)

    def close(self) -> None:
        """End agent and TPM."""
        self.host.close()


@contextmanager
def living(
    name: str,
    desk: Desk,
    url: str,
    settings: str = "",
    manufacturer: Manufacturer | None = None,
    above: str = "/var/tmp",
) -> Iterator[World]:
    """A world for the time of a block: its own folder, mount namespace, libvirt and host. The update is not applied.

    ``above`` is where its folder lies: everybody may write to the usual place.
    """
    with folder(name, above) as below, libvirt_host.running(below / "libvirt") as libvirt:
        world = World(below, desk, url, libvirt, settings, manufacturer)
        try:
            yield world
        finally:
            world.close()


@contextmanager
def laid_over(path: Path, content: bytes, below: Path) -> Iterator[None]:
    """Let a changed copy lie over a file of this mount namespace; the machine's own file is not touched."""
    copy = below / "laid-over"
    copy.write_bytes(content)
    shutil.copymode(path, copy)
    subprocess.run(["mount", "--bind", copy, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


__all__ = ["VM_NAME", "VM_UUID", "State", "World", "copied", "folder", "laid_over", "living", "published", "serving"]
