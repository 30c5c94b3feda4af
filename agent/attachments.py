# SPDX-License-Identifier: Apache-2.0
"""What a host offers to its VMs besides disks, in one place for those who plan, judge and start them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.bounded import within
from agent.devices import Devices
from agent.generation_ids import GenerationIds
from agent.networks import Networks
from content.measuring import Digester
from documents.definition import VmDefinition
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding

ANSWER_SECONDS = 20.0
"""How long libvirt may take to tell of a VM's networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """Of one host.

    Attributes:
        networks, devices, generations: see there.
    """

    networks: Networks
    devices: Devices
    generations: GenerationIds

    def prepare(self, definition: VmDefinition) -> None:
        """Before libvirt is asked to start a VM: have what it needs be as it was made, where that hurts no other."""
        if definition.networks:
            self.networks.restore(use.name for use in definition.networks)

    def findings(
        self, definition: VmDefinition, policy: SecurityPolicy, others: Iterable[VmDefinition], digester: Digester
    ) -> Iterator[Finding]:
        """What stands for and against a VM's attachments; see the parts."""
        if definition.networks:
            # libvirt waits for the gate, and may be held up by somebody who waits for the same VM.
            yield from within(
                ANSWER_SECONDS,
                lambda: tuple(self.networks.findings(definition, policy, others)),
                "the networks were not looked at",
                "libvirt did not tell of them",
            )
        yield from self.devices.findings(definition, policy, digester)
