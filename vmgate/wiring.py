# SPDX-License-Identifier: Apache-2.0
"""Where the parts are joined: real clock, TPM, libvirt and socket for the agent and for ``init``.

This is the only place that knows all of them. It decides nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from agent import settings as settings_file
from agent import setup
from agent.access import Access
from agent.audit import AuditTrail
from agent.client import require_answer
from agent.errors import NotReady
from agent.fresh import Polkit
from agent.host import Host
from agent.kernel_audit import KernelAudit
from agent.membership.fleet import Visiting
from agent.offload.start import Sending
from agent.outside import Outside
from agent.paths import HostPaths
from agent.porter import STATUS, Porter, is_boxed
from agent.porter_line import PorterLine
from agent.role_file import RoleFile
from agent.server import Server
from agent.service import Service
from agent.settings import Settings
from agent.site import site_of
from agent.sleep_files import install_sleep
from agent.unit_files import install_policy, install_units
from agent.watching import Watching
from content import durable
from content.errors import Missing
from content.locks import BOOT_ID, exclusive
from content.store import ContentStore
from documents.errors import VmgateError
from hypervisor.libvirt import Hypervisor
from keys.anchor import LIMIT, TrustAnchor
from measure.tpm import Tpm
from vmgate.service_manager import Watchdog, given_socket, tell

SITE = Path(__file__).resolve().parent.parent
LOOK_SECONDS = 5
"""Between looks whether the host slept, and attempts to tell libvirt of the VMs while it does not answer."""

ANSWER_SECONDS = 30
"""For the agent's answer to its own watchdog: a busy machine is slow, and no answer at all costs the agent its life."""

DRAIN_SECONDS = 60
"""For what is being answered when the agent is to end; less than ``TimeoutStopSec`` of the unit."""

log = logging.getLogger(__name__)


def _clock() -> int:
    return int(time.time())


def _boot() -> str:
    return durable.read_file(BOOT_ID, 100).decode("ascii").strip()


def set_up(root: Path, anchor: Path, settings: Path | None, *, units: bool = False) -> dict[str, Any]:
    """Do what ``vmgate init`` does; returns what was done."""
    paths = HostPaths(root)
    if settings is None and paths.settings.exists():
        settings = paths.settings
    settings_bytes = durable.read_file(settings, settings_file.MAX_BYTES) if settings else b""
    trust, parsed = setup.prepare(paths, durable.read_file(anchor, LIMIT), settings_bytes)
    with Tpm.open(parsed.tpm) as tpm:
        setup.make_directories(paths)
        with exclusive(paths.lock, wait=False):
            audit = AuditTrail(paths.audit, _clock, _boot())
            more = (*install_units(root), *install_sleep(root), *install_policy(root)) if units else ()
            steps = (*setup.write(paths, trust, parsed, settings_bytes, tpm, audit), *more)
    return {"steps": list(steps), "repository": trust.identity}


def serve(root: Path) -> None:
    """Run the agent until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    paths = HostPaths(root)
    try:
        anchor = TrustAnchor(durable.read_file(paths.anchor, LIMIT))
    except Missing as error:
        raise NotReady(
            "the agent did not start", cause="this host was not set up", remedy="run `vmgate init --anchor FILE`"
        ) from error
    settings = settings_file.load(paths.settings)
    with exclusive(paths.lock, wait=False), Tpm.open(settings.tpm) as tpm:
        outside = _outside(paths, settings, anchor, tpm)
        outside.audit.observers.append(KernelAudit().tell)
        host = Host(outside)
        host.start()
        host.note_boot()
        access = Access(RoleFile(paths.roles), outside.audit, _clock, Polkit(), os.getuid())
        server = Server(paths.socket, Service(host).handlers(), access, given_socket())
        server.look()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.close())
        serving = threading.Thread(target=server.serve, daemon=True)
        serving.start()
        # Now libvirtd may start: the platform is measured, and whatever it starts by itself meets the gate.
        tell("READY=1")
        sending, visiting = Sending(host.offload), Visiting(host.fleet)
        threading.Thread(target=host.watch_trial, daemon=True).start()
        (taking_over := _TakingOver(host, server)).start()
        watchdog = Watchdog(partial(require_answer, paths.socket, ANSWER_SECONDS))
        while serving.is_alive():
            if told := watchdog.look():
                log.error("the service manager is not told that the agent works: %s", told)
            serving.join(LOOK_SECONDS)
            host.wake.look()
            server.look()
        tell("STOPPING=1")
        taking_over.ended.set()
        if not server.drain(DRAIN_SECONDS):
            log.warning("the agent ends before all that it was asked is answered")
        host.launcher.close()
        outside.audit.append("agent", "done", "host", "agent")
        host.signing.now()
        visiting.end()
        sending.end()
        server.remove()
        if taking_over.failure is not None:
            raise taking_over.failure


def _outside(paths: HostPaths, settings: Settings, anchor: TrustAnchor, tpm: Tpm) -> Outside:
    return Outside(
        paths=paths,
        settings=settings,
        anchor=anchor,
        tpm=tpm,
        hypervisor=Hypervisor(settings.libvirt),
        audit=AuditTrail(paths.audit, _clock, _boot()),
        clock=_clock,
        site=SITE,
        version=version("vmgate"),
        boot=_boot(),
        porter=_porter(paths),
        besides=site_of(settings.site, paths),
    )


def _porter(paths: HostPaths) -> Porter | PorterLine:
    """The process outside of the agent's box, if the agent is in one. A host that is staged in a folder has none."""
    staged = paths.root != Path("/")
    if not staged and is_boxed(durable.read_file(STATUS, 100_000).decode("ascii", "replace")):
        return PorterLine(paths.porter)
    return Porter(ContentStore(paths.store), paths.vmm, staged=staged)


class _TakingOver(threading.Thread):
    """Lets libvirt know the VMs, starts what waited, and has what runs watched, beside the main loop.

    It may take as long as libvirt likes.

    Args:
        host: whose VMs.
        server: ended when the state turns out to be a newer vmgate's.
    """

    def __init__(self, host: Host, server: Server) -> None:
        super().__init__(name="taking over", daemon=True)
        self.ended = threading.Event()
        self.failure: VmgateError | None = None
        self._host = host
        self._server = server

    def run(self) -> None:
        """Try until libvirt took it all; the watch ends with the agent."""
        try:
            done = self._host.take_over()
            watching = Watching(self._host.look, self._host.outside.hypervisor.events)
            click.echo(f"vmgate agent: ready, assurance level {self._host.level()}")
            while not self.ended.wait(LOOK_SECONDS):
                done = done or self._host.take_over()
            watching.end()
        except VmgateError as error:
            self.failure = error
            self._server.close()
