# SPDX-License-Identifier: Apache-2.0
"""The domain that each running VM was let start as, with libvirt's number of that run; it goes with the VM.

It is written before the hook gets its yes, so that whatever runs without it runs without the gate. That a VM may run
at all follows from the log (``measure.launches``), not from here. This module compares nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from content import durable
from content.errors import Missing
from hypervisor.errors import HypervisorError
from hypervisor.untrusted_xml import MAX_XML, read_domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """One run of a VM as it was let start.

    Attributes:
        run: libvirt's number of it; -1 where libvirt told none.
        xml: its domain as the definition renders to it.
    """

    run: int
    xml: str


class LaunchedDomains:
    """The records of one boot.

    Args:
        folder: does not outlive the boot, as running VMs do not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, name: str, xml: str, untrusted_start: bytes) -> None:
        """A VM is about to start, or was changed by vmgate itself while it runs.

        Args:
            name: of the VM.
            xml: what its definition renders to.
            untrusted_start: what libvirt gave to the hook; only the number of the run is taken from it.

        Raises:
            ContentError: it could not be written.
        """
        domain = read_domain(xml.encode())
        domain.set("id", str(_run(read_domain(untrusted_start).get("id"))))
        durable.make_directory(self._folder)
        durable.write_file(self._folder / name, etree.tostring(domain, encoding="utf-8"))

    def forget(self, name: str) -> None:
        """A VM is off. The name is one that was noted."""
        durable.remove(self._folder / name)

    def of(self, name: str) -> Launched | None:
        """What a VM was let start as; None where nobody knows."""
        try:
            written = durable.read_file(self._folder / name, MAX_XML)
            domain = read_domain(written)
        except (Missing, HypervisorError):
            return None
        run = _run(domain.get("id"))
        if "id" in domain.attrib:
            del domain.attrib["id"]
        return Launched(run=run, xml=etree.tostring(domain, encoding="unicode"))


def _run(untrusted: str | None) -> int:
    """A number that libvirt gives to a run; -1 for anything else."""
    return int(untrusted) if untrusted and untrusted.isascii() and untrusted.isdecimal() and len(untrusted) < 10 else -1
