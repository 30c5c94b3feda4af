# SPDX-License-Identifier: Apache-2.0
"""What each running VM was started from, so that it can be told from what is installed until it is restarted.

It is written where the gate has said yes and goes with the VM. It informs people and the restarts after an update; no
trust decision reads it, and whether a VM runs at all is not its matter: that follows from what the TPM was told
(``measure.launches``).
"""

from __future__ import annotations

import logging
from pathlib import Path

from agent.plan import VmPlan
from content import durable
from content.errors import Missing
from documents.canonical import Json
from documents.errors import DocumentError
from documents.unattended import RunningVm
from measure.predict import reference_digest

log = logging.getLogger(__name__)


def installed(vm: VmPlan) -> RunningVm:
    """What a VM would be started from now."""
    return RunningVm(
        name=vm.definition.name,
        channel=vm.release.channel,
        number=vm.release.number,
        definition=vm.artifact.fsverity,
        images=tuple((disk.name, disk.image) for disk in vm.definition.based),
        platform=vm.platform.number,
        reference=reference_digest(vm.platform.reference),
    )


def told(vm: RunningVm) -> dict[str, Json]:
    """The same for people and programs."""
    return {
        "channel": vm.channel,
        "number": vm.number,
        "platform": vm.platform,
        "images": [{"disk": disk, "fsverity": digest} for disk, digest in vm.images],
    }


class Running:
    """The records of one boot.

    Args:
        folder: does not outlive the boot, as running VMs do not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, vm: RunningVm) -> None:
        """A VM is about to start.

        Raises:
            ContentError: it could not be written.
        """
        durable.make_directory(self._folder)
        durable.write_file(self._folder / vm.name, vm.encode())

    def forget(self, name: str) -> None:
        """A VM is off. The name is one that was noted."""
        durable.remove(self._folder / name)

    def of(self, name: str) -> RunningVm | None:
        """What a VM was started from; None where nobody knows."""
        try:
            return RunningVm.parse(durable.read_file(self._folder / name, RunningVm.LIMIT))
        except Missing:
            return None
        except DocumentError as error:
            log.warning("what %s was started from is not known: %s", name, error)
            return None
