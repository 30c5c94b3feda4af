# SPDX-License-Identifier: Apache-2.0
"""The state of a host from one form to the next, and back: a table of steps, each of which may be repeated after a cut.

Forward when a newer vmgate finds older state, before it reads any of it; back when an administrator goes back to a
release whose vmgate reads less. State of a form beyond this vmgate's is left alone, and so is the host. What a step
cannot take back without loss it refuses, and nothing was changed.

Forms: 1 the first; 2 the sealed key names the PCRs that it needs besides PCR 13; 3 a generation has its trial in
``update-trial``, and the form is written down. Members that older forms lack and newer ones may have (``ahead``,
``floor``) came within form 2: no file of theirs is lost, and a vmgate from before them refuses such a key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from agent.errors import StateNewer, StateStays
from agent.paths import HostPaths
from content import durable
from content.errors import Missing
from documents.canonical import Json, encode
from documents.host_state import SealedKey
from documents.state_form import MOST_BUILDS, StateForm

WRITTEN_DOWN = 3
"""From this form on the form is in a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one form to the next.

    Attributes:
        forward: makes the next form of it.
        back: makes the earlier form of it again.
        require: raises ``StateStays`` where that would lose something.
    """

    forward: Callable[[HostPaths], None]
    back: Callable[[HostPaths], None]
    require: Callable[[HostPaths], None] = lambda _: None


def _name_local_pcrs(paths: HostPaths) -> None:
    """Keys of the first form were sealed without any PCR of the host's own."""
    try:
        untrusted = durable.read_file(paths.sealed_key, SealedKey.LIMIT)
    except Missing:
        return
    key = _members(untrusted)
    if key is not None and "local_pcrs" not in key:
        made = encode(key | {"local_pcrs": []})
        SealedKey.parse(made)
        durable.write_file(paths.sealed_key, made)


def _require_plain_key(paths: HostPaths) -> None:
    key = _sealed_key(paths)
    if key is not None and (key.local_pcrs or key.ahead or key.floor):
        raise StateStays(
            "nothing was rolled back",
            cause="the host's key is sealed to more than the vmgate of that release can open",
            remedy="wait for a corrected release, or set this host up anew",
        )


def _forget_local_pcrs(paths: HostPaths) -> None:
    key = _sealed_key(paths)
    if key is not None:
        durable.write_file(
            paths.sealed_key, encode({"type": key.TYPE, "version": key.VERSION, **_without_local_pcrs(key)})
        )


def _sealed_key(paths: HostPaths) -> SealedKey | None:
    """The sealed key in its second form; None where there is none, or it went back already."""
    try:
        untrusted = durable.read_file(paths.sealed_key, SealedKey.LIMIT)
    except Missing:
        return None
    members = _members(untrusted)
    return None if members is not None and "local_pcrs" not in members else SealedKey.parse(untrusted)


def _without_local_pcrs(key: SealedKey) -> dict[str, Json]:
    return {name: value for name, value in key.members().items() if name != "local_pcrs"}


def _begin_trials(_: HostPaths) -> None:
    """Nothing was on trial before."""


def _end_trials(paths: HostPaths) -> None:
    durable.remove(paths.update_trial)


STEPS: Mapping[int, Step] = MappingProxyType(
    {
        1: Step(forward=_name_local_pcrs, back=_forget_local_pcrs, require=_require_plain_key),
        2: Step(forward=_begin_trials, back=_end_trials),
    }
)
"""By the form that each starts from."""

NEWEST = max(STEPS) + 1


class StateForms:
    """The form of one host's state.

    Args:
        paths: of the host. The host's lock is held.
    """

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths

    def current(self) -> StateForm:
        """The form that the state is in.

        Raises:
            DocumentError: what says so is damaged.
            ContentError: it cannot be read.
        """
        try:
            return StateForm.parse(durable.read_file(self._paths.state_form, StateForm.LIMIT))
        except Missing:
            return StateForm(form=self._guessed())

    def _guessed(self) -> int:
        """The form of state from before forms were written down."""
        try:
            key = _members(durable.read_file(self._paths.sealed_key, SealedKey.LIMIT))
        except Missing:
            return WRITTEN_DOWN - 1
        return 1 if key is not None and "local_pcrs" not in key else WRITTEN_DOWN - 1

    def enter(self) -> None:
        """Take the state to the newest form, before anything else reads it.

        Raises:
            StateNewer: it is of a form beyond; nothing was changed.
            DocumentError: a file of it is damaged, or of a newer vmgate.
            ContentError: it could not be read or written; what was done may be done again.
        """
        state = self.current()
        if state.form > NEWEST:
            raise StateNewer(
                "the state of this host was left alone",
                cause=f"it is of form {state.form}, and this vmgate knows none above {NEWEST}",
                remedy="start the newer vmgate again; its `vmgate update rollback` takes the state back",
            )
        while state.form < NEWEST:
            STEPS[state.form].forward(self._paths)
            state = replace(state, form=state.form + 1)
            self._write(state)

    def note(self, build: str) -> None:
        """Remember that a build of vmgate writes the newest form: it is this one.

        Raises:
            ContentError: it could not be written.
        """
        state = self.current()
        if state.written_by(build) == NEWEST:
            return
        others = [pair for pair in state.builds if pair[0] != build]
        self._write(replace(state, builds=tuple([*others, (build, NEWEST)][-MOST_BUILDS:])))

    def go_back(self, build: str) -> None:
        """Take the state back to what an earlier build of vmgate reads; one that was never seen here reads this form.

        Raises:
            StateStays: it cannot be; nothing was changed.
            ContentError: it could not be written; what was done may be done again, also forward.
        """
        state = self.current()
        wanted = state.written_by(build) or state.form
        for form in range(wanted, state.form):
            STEPS[form].require(self._paths)
        while state.form > wanted:
            # First what it is to be: a step forward that has nothing to do does nothing.
            state = replace(state, form=state.form - 1)
            self._write(state)
            STEPS[state.form].back(self._paths)
        if state.form < WRITTEN_DOWN:
            # As it was: such a vmgate writes none.
            durable.remove(self._paths.state_form)

    def _write(self, state: StateForm) -> None:
        durable.write_file(self._paths.state_form, state.encode())


def _members(untrusted: bytes) -> dict[str, Json] | None:
    """The members of a document of whatever form; None where it is none, which its reader will say."""
    try:
        found = json.loads(untrusted)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
