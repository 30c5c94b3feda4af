# SPDX-License-Identifier: Apache-2.0
"""Answers ``vmgate config``: what is local to this host, whose word there is for it, and the administrator's approval.

Who approves is root by the kernel's word, or an administrator who has just proved it (``agent.access``). This module
judges nothing itself and signs nothing (``agent.baselines`` does).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from agent.baselines import proposal, told_baseline
from agent.host_own import HostOwn
from agent.platform import Platform
from documents.canonical import Json
from documents.host_state import Generation
from documents.local_listing import UNREADABLE
from measure.local import judge_local


class Approval:
    """The approvals of one host.

    Args:
        platform, own: of this host.
        require_active: gives the active generation, or raises ``NotReady``.
        turn: held while starts are judged, so that none sees half an approval.
    """

    def __init__(
        self,
        platform: Platform,
        own: HostOwn,
        require_active: Callable[[], Generation],
        turn: AbstractContextManager[bool],
    ) -> None:
        self._platform = platform
        self._local = own.local
        self._baselines = own.baselines
        self._require_active = require_active
        self._turn = turn

    def show(self) -> dict[str, Json]:
        """The approved baseline."""
        approved = self._baselines.approved()
        return {"baseline": told_baseline(approved), "refused": self._baselines.refusal}

    def check(self) -> dict[str, Json]:
        """What is there now, and whose word there is for it. What changed since it was measured is measured anew.

        Raises:
            NotReady: no release is active.
        """
        generation = self._require_active()
        with self._turn:
            self._platform.measure_host()
            return self._found(generation)

    def approve(self, shown: str, actor: str) -> dict[str, Json]:
        """Approve what ``check`` showed.

        Args:
            shown: its ``proposal``.
            actor: who approves.

        Raises:
            BaselineChanged, PolicyRefused, SealShut: see ``Baselines.approve``.
        """
        generation = self._require_active()
        platform = generation.platform
        with self._turn:
            digests = self._local.digests()
            number = self._baselines.approve(digests, shown, platform, self._platform.policy(platform), actor)
            self._platform.measure_host()
            return {"number": number, **self._found(generation)}

    def _found(self, generation: Generation) -> dict[str, Json]:
        words = self._platform.words(generation)
        approved = dict(words.approved.baseline.entries) if words.approved else {}
        digests = self._local.digests()
        things: list[Json] = []
        for subject, digest in sorted(digests.items()):
            finding = judge_local("local-now", subject, digest, words)
            things.append(
                {
                    "subject": subject,
                    "found": "unreadable" if digest == UNREADABLE else digest,
                    "expected": words.publisher.get(subject, approved.get(subject, "")),
                    "outcome": finding.outcome,
                    "authority": finding.authority,
                }
            )
        return {
            "things": things,
            "proposal": proposal(digests),
            "needed": words.needed,
            "refused": self._baselines.refusal,
        }
