# SPDX-License-Identifier: Apache-2.0
"""Which VMs were taken back, by whom, and what is to be done: the table asked about this host's state.

Releases are asked here; whoever else may take a VM back (a fleet: lock, assignment, lease) is one of ``sources``. This
module does nothing to a VM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.launch import Launcher
from agent.platform import Platform
from agent.revocation import CAUSES, LOCKED, Order, cause_of, order
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.revocation import DEFAULT, Revocation
from measure.launches import Launch

Source = Callable[[str], str]
"""Gives the cause, of ``agent.revocation.CAUSES``, for which a VM of a name was taken back; empty for none."""


def said(sources: list[Source], name: str) -> str:
    """The strongest cause of all; one that is not known counts as a lock."""
    causes = {cause if cause in CAUSES else LOCKED for source in sources if (cause := source(name))}
    return next((cause for cause in CAUSES if cause in causes), "")


class TakenBack:
    """Asks.

    Args:
        launcher: knows what runs, and as what.
        platform: has the signed policy.
        generation: gives the active generation.
        sources: besides releases.
        keys: gives the names of VMs that have keys here, whether they run or not.
    """

    def __init__(
        self,
        launcher: Launcher,
        platform: Platform,
        generation: Callable[[], Generation | None],
        sources: list[Source],
        keys: Callable[[], Iterable[str]],
    ) -> None:
        self._launcher = launcher
        self._platform = platform
        self._generation = generation
        self._sources = sources
        self._keys = keys

    def orders(self) -> dict[str, tuple[str, Order]]:
        """Cause and order for each VM that was taken back and that runs, or that has keys here which are to go.

        Raises:
            VmgateError: the active generation cannot be read; then nothing is said of anything.
        """
        generation = self._generation()
        if generation is None:
            return {}
        policy, running = self._policy(generation), self._launcher.running_now()
        found = {name: self._cause(name, launch, generation) for name, launch in running.items()}
        if self._sources:
            # What releases say of a VM that is off is the gate's to say, and its keys stay.
            found |= {name: said(self._sources, name) for name in self._keys() if name not in found}
        return {name: (cause, order(cause, name, policy)) for name, cause in found.items() if cause}

    def _cause(self, name: str, launch: Launch, generation: Generation) -> str:
        noted = self._launcher.running_as(name)
        made_of = {launch.event.fsverity, *(digest for _, digest in (noted.images if noted else ()))}
        artifacts = (artifact for release in generation.workloads for artifact in release.of_kind("definition"))
        defined = {artifact.name.removeprefix("vm/") for artifact in artifacts}
        refused = {digest for release in generation.parsed() for digest in release.refused}
        return cause_of(name, made_of, defined, refused) or said(self._sources, name)

    def _policy(self, generation: Generation) -> Revocation:
        try:
            return self._platform.policy(generation.platform).revocation
        except VmgateError:
            return DEFAULT
