# SPDX-License-Identifier: Apache-2.0
"""One connection to libvirt, and what is asked of it.

Before each call the connection is asked whether it lives, and opened again if not: libvirtd may have been restarted.
A call that was sent is never repeated. No libvirt exception leaves this module, and libvirt prints nothing.
Calls block; they may come from several threads. Nothing is decided here: the gate sits in libvirt's hook.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree

from hypervisor.errors import (
    DomainMissing,
    DomainRefused,
    LibvirtAway,
    StartFailed,
    StopTimedOut,
)
from hypervisor.libvirt.events import Events
from hypervisor.libvirt.live import STATES, Live, active
from hypervisor.libvirt.networks import LibvirtNetworks
from hypervisor.libvirt.translation import start_error, translated, words

SYSTEM = "qemu:///system"
STOP_POLL_SECONDS = 0.2
UNDEFINED = "undefined"

_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_TPM
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)
_FORGET = _UNDEFINE & ~(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM) | (
    libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What libvirt knows of one domain.

    Attributes:
        name: its name.
        uuid: lower case.
        state: ``off``, ``running``, ``paused``, ``stopping``, ``suspended``, ``crashed`` or ``unknown``.
        persistent: whether it stays when it is off.
        autostart: whether libvirt starts it by itself.
    """

    name: str
    uuid: str
    state: str
    persistent: bool
    autostart: bool


class Hypervisor:
    """The VMs of one libvirt.

    Args:
        uri: libvirt's connection URI.
    """

    def __init__(self, uri: str = SYSTEM) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._held: Any = None
        self.networks = LibvirtNetworks(self._own_connection)

    @classmethod
    def open(cls, uri: str = SYSTEM) -> Hypervisor:
        """A hypervisor that answers.

        Raises:
            LibvirtAway: it does not.
        """
        hypervisor = cls(uri)
        hypervisor.connect()
        return hypervisor

    def connect(self) -> None:
        """Wait until libvirt answers, however long it is busy with itself.

        Raises:
            LibvirtAway: it does not run.
        """
        self._connection()

    def close(self) -> None:
        """Give the connection back; the next call opens another."""
        with self._lock:
            if self._held is not None:
                with translated("the connection to libvirt was not closed"):
                    self._held.close()
            self._held = None

    @property
    def version(self) -> str:
        """The version of libvirt, such as ``9.0.0``.

        Raises:
            LibvirtAway: no answer.
        """
        with translated("libvirt did not tell its version"):
            number = self._connection().getLibVersion()
        return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

    def domains(self) -> tuple[Domain, ...]:
        """All domains, by name.

        Raises:
            LibvirtAway: no answer.
        """
        with translated("the domains were not listed"):
            found = [
                Domain(
                    name=domain.name(),
                    uuid=domain.UUIDString(),
                    state=STATES.get(domain.state()[0], "unknown"),
                    persistent=bool(domain.isPersistent()),
                    autostart=bool(domain.isPersistent() and domain.autostart()),
                )
                for domain in self._connection().listAllDomains()
            ]
        return tuple(sorted(found, key=lambda domain: domain.name))

    def active(self) -> tuple[Live, ...]:
        """What runs at this moment. Nobody whom libvirt's hook waits for may ask.

        Raises:
            LibvirtAway: no answer.
        """
        with self._own_connection() as connection, translated("the running domains were not read"):
            return active(connection)

    def events(self, changed: threading.Event) -> Events:
        """What sets a flag when a domain changed."""
        return Events(self._uri, changed)

    def state(self, name: str) -> str:
        """As ``Domain.state``, or ``undefined``.

        Raises:
            LibvirtAway: no answer.
        """
        try:
            with translated(f"the state of {name} is not known"):
                return STATES.get(self._domain(name).state()[0], "unknown")
        except DomainMissing:
            return UNDEFINED

    def xml(self, name: str, *, live: bool = False) -> bytes:
        """The domain's XML as libvirt has it: untrusted.

        Args:
            name: the domain.
            live: as it runs, not as it would start next.

        Raises:
            DomainMissing: libvirt does not know it.
        """
        flags = 0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE
        with translated(f"the XML of {name} was not read"):
            return str(self._domain(name).XMLDesc(flags)).encode()

    def define(self, xml: str) -> None:
        """Let libvirt know a domain; one of the same name and UUID is replaced.

        Raises:
            DomainRefused: libvirt does not accept it.
        """
        with translated("the VM was not defined", DomainRefused):
            self._connection().defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def undefine(self, name: str) -> None:
        """Let libvirt forget a domain, with its firmware variables and the state of its TPM.

        Raises:
            DomainMissing: libvirt does not know it.
        """
        with translated(f"{name} was not undefined"):
            self._domain(name).undefineFlags(_UNDEFINE)

    def forget(self, name: str) -> None:
        """Let libvirt forget a domain and keep its firmware variables and the state of its TPM.

        Raises:
            DomainMissing: libvirt does not know it.
        """
        with translated(f"{name} was not undefined"):
            self._domain(name).undefineFlags(_FORGET)

    def start(self, name: str) -> None:
        """Start a domain. The hook, and so the gate, is asked by libvirt on the way.

        Raises:
            DomainMissing: libvirt does not know it.
            StartRefused: the hook said no.
            KeyAbsent: its TPM's secret is not there.
            StartFailed: it could not start.
        """
        with self._own_connection() as connection:
            with translated(f"{name} was not started"):
                domain = connection.lookupByName(name)
            try:
                with translated(f"{name} was not started", StartFailed):
                    # A memory image that somebody saved is not resumed: nobody signed it.
                    domain.createWithFlags(libvirt.VIR_DOMAIN_START_FORCE_BOOT)
            except StartFailed as error:
                raise start_error(name, error) from error

    def stop(self, name: str, timeout: float) -> None:
        """Ask the guest to shut down and wait until it is off. Off already is fine.

        Args:
            name: the domain.
            timeout: seconds.

        Raises:
            DomainMissing: libvirt does not know it.
            StopTimedOut: it still runs.
        """
        if self.state(name) == "off":
            return
        with translated(f"{name} was not stopped"):
            self._domain(name).shutdown()
        deadline = time.monotonic() + timeout
        while self.state(name) not in ("off", UNDEFINED):
            if time.monotonic() >= deadline:
                raise StopTimedOut(
                    f"{name} was not stopped",
                    cause=f"the guest still runs after {timeout:g} seconds",
                    remedy=f"wait, or `vmgate vm kill {name}`",
                )
            time.sleep(STOP_POLL_SECONDS)

    def kill(self, name: str) -> None:
        """Switch a domain off at once. Off already is fine.

        Raises:
            DomainMissing: libvirt does not know it.
        """
        with self._own_connection() as connection, translated(f"{name} was not switched off"):
            domain = connection.lookupByName(name)
            if domain.isActive():
                domain.destroy()

    def suspend(self, name: str) -> None:
        """Stop a domain's processors; its memory stays. One that is stopped already is fine.

        Raises:
            DomainMissing: libvirt does not know it, or it is off.
        """
        with self._own_connection() as connection, translated(f"{name} was not suspended"):
            domain = connection.lookupByName(name)
            if STATES.get(domain.state()[0]) != "paused":
                domain.suspend()

    def dump_memory(self, name: str, path: Path) -> None:
        """Let QEMU write a domain's memory and processors to a file, as an ELF core. The domain stands meanwhile.

        Args:
            name: the domain.
            path: a file that is there; libvirt runs as root and opens it by this name.

        Raises:
            DomainMissing: libvirt does not know it.
            HypervisorError: it is off, or was not written.
        """
        with self._own_connection() as connection, translated(f"the memory of {name} was not written"):
            domain = connection.lookupByName(name)
            domain.coreDumpWithFormat(str(path), libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY)

    def run_number(self, name: str) -> int:
        """What tells one run of a domain from another while libvirt's host is up; -1 where it is off.

        Raises:
            DomainMissing: libvirt does not know it.
        """
        with translated(f"the run of {name} is not known"):
            return int(self._domain(name).ID())

    def set_secret(self, secret: str, user: str, value: bytes, usage: str = "vtpm") -> None:
        """Give libvirt the secret of a VM's TPM or disk. It is held in memory only and cannot be read back.

        Args:
            secret: the secret's UUID.
            user: whose it is: the VM's UUID, or the path of the disk.
            value: the passphrase.
            usage: ``vtpm`` or ``volume`` (libvirt, formatsecret).
        """
        root = etree.Element("secret", ephemeral="yes", private="yes")
        etree.SubElement(root, "uuid").text = secret
        name = "volume" if usage == "volume" else "name"
        etree.SubElement(etree.SubElement(root, "usage", type=usage), name).text = user
        with self._own_connection() as connection, translated("the VM's secret was not set"):
            connection.secretDefineXML(etree.tostring(root, encoding="unicode")).setValue(value)

    def drop_secret(self, secret: str) -> None:
        """Overwrite a secret and let libvirt forget it. One that is not there is as good as dropped.

        Args:
            secret: its UUID.
        """
        with self._own_connection() as connection, translated("the VM's secret was not dropped"):
            try:
                held = connection.secretLookupByUUIDString(secret)
                # Undefining alone leaves the value in libvirtd's memory until something else overwrites it.
                held.setValue(b"dropped " * 16)
                held.undefine()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                    raise

    def _domain(self, name: str) -> Any:
        return self._connection().lookupByName(name)

    def _connection(self) -> Any:
        """A connection that just answered."""
        with self._lock:
            if self._held is not None:
                try:
                    self._held.getLibVersion()
                except libvirt.libvirtError:
                    self._held = None
            if self._held is None:
                self._held = self._connect()
            return self._held

    def _connect(self) -> Any:
        # libvirt would print each error that it also raises.
        libvirt.registerErrorHandler(_say_nothing, None)
        try:
            return libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise LibvirtAway(
                "libvirt does not answer", cause=words(error), remedy="start libvirtd, then try again"
            ) from error

    @contextmanager
    def _own_connection(self) -> Iterator[Any]:
        """A connection for a call that waits for libvirt's hook, or that is made while the hook waits.

        On one connection such calls wait for each other for ever: libvirt answers only a few of a client at a time.
        """
        connection = self._connect()
        try:
            yield connection
        finally:
            with suppress(libvirt.libvirtError):
                connection.close()


def _say_nothing(*_: object) -> None:
    """An error handler for libvirt."""
