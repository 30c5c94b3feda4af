# SPDX-License-Identifier: Apache-2.0
"""Where the parts are joined: real clock, TPM, libvirt and socket for the agent and for ``init``.

This is the only place that knows all of them. It decides nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from agent import settings as settings_file
from agent import setup
from agent.access import Access
from agent.audit import AuditTrail
from agent.errors import NotReady
from agent.fresh import Polkit
from agent.host import Host
from agent.kernel_audit import KernelAudit
from agent.offload.start import Sending
from agent.outside import Outside
from agent.paths import HostPaths
from agent.role_file import RoleFile
from agent.server import Server
from agent.service import Service
from agent.sleep_files import install_sleep
from agent.unit_files import install_policy, install_units
from content import durable
from content.errors import Missing
from content.locks import BOOT_ID, exclusive
from hypervisor.libvirt import Hypervisor
from keys.anchor import LIMIT, TrustAnchor
from measure.tpm import Tpm

SITE = Path(__file__).resolve().parent.parent
LOOK_SECONDS = 5
"""Between looks whether the host slept, and attempts to tell libvirt of the VMs while it does not answer."""


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
        outside = Outside(
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
        )
        outside.audit.observers.append(KernelAudit().tell)
        host = Host(outside)
        host.start()
        host.note_boot()
        access = Access(RoleFile(paths.roles), outside.audit, _clock, Polkit(), os.getuid())
        server = Server(paths.socket, Service(host).handlers(), access)
        server.look()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.close())
        serving = threading.Thread(target=server.serve, daemon=True)
        serving.start()
        # Now libvirtd may start: the platform is measured, and whatever it starts by itself meets the gate.
        tell_service_manager("READY=1")
        sending = Sending(host.offload)
        threading.Thread(target=host.watch_trial, daemon=True).start()
        done = host.take_over()
        click.echo(f"vmgate agent: ready, assurance level {host.level()}")
        while serving.is_alive():
            serving.join(LOOK_SECONDS)
            host.wake.look()
            server.look()
            done = done or (serving.is_alive() and host.take_over())
        host.launcher.close()
        outside.audit.append("agent", "done", "host", "agent")
        host.signing.now()
        sending.end()
        durable.remove(paths.socket)


def tell_service_manager(state: str) -> None:
    """Tell systemd how far the agent is (sd_notify(3)); nothing where no service manager listens.

    Raises:
        NotReady: the one that listens cannot be told, and would end the agent as too slow.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            # A leading @ stands for the abstract name space (unix(7)).
            line.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        raise NotReady(
            "the service manager was not told", cause=f"{address}: {error.strerror or error}", remedy="look at the unit"
        ) from error
