# SPDX-License-Identifier: Apache-2.0
"""When the host's key is sealed anew, and whether that shuts what was sealed before. Pure: values in, a decision out.

Shutting means: the new blob opens at one more than the counter, and when it is durable the counter follows, once, for
good. That wears the TPM's memory and forbids nothing inside an epoch, so it happens only where an older blob would open
in a state that is wanted no more. Whatever is opened, sealed, written and counted is done by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from documents.host_state import SealedKey
from documents.release import PolicyKey
from documents.sealed import SealedFloor
from measure.guard import Pcrs, Terms


class Step(Enum):
    """What is due.

    Attributes:
        NONE: nothing.
        ADD: a state more; what was sealed before goes on opening.
        SHUT: what was sealed before opens no more.
    """

    NONE = "none"
    ADD = "add"
    SHUT = "shut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a confirmed platform release wants of the host's key.

    Attributes:
        channel: of the release.
        epoch: of the release.
        key: its current policy key.
        local_pcrs: that the key is to need.
        ahead: other values of them that the release announces.
        floor: the floor as it stands in its file.
    """

    channel: str
    epoch: int
    key: PolicyKey
    local_pcrs: tuple[int, ...]
    ahead: tuple[Pcrs, ...]
    floor: SealedFloor


def due(sealed: SealedKey, wanted: Wanted, *, arrived: bool) -> tuple[Step, str]:
    """What is due, and why, for people.

    Args:
        sealed: the key as it lies on the disk.
        wanted: see there; of an older epoch than the key's it wants nothing.
        arrived: the host is in a state ahead of which the key was sealed.
    """
    if wanted.epoch < sealed.epoch:
        return Step.NONE, ""
    if wanted.epoch > sealed.epoch:
        return Step.SHUT, f"the security epoch rose to {wanted.epoch}"
    if not set(wanted.local_pcrs) <= set(sealed.local_pcrs):
        return Step.SHUT, f"the release judges PCR {', '.join(map(str, wanted.local_pcrs))} as well"
    if arrived:
        return Step.SHUT, "the change of Secure Boot that was announced has come"
    if sealed.floor is None or wanted.floor.root > sealed.floor.root:
        return Step.SHUT, f"the repository's root has version {wanted.floor.root}"
    announced = {item.pcrs for item in sealed.ahead}
    if announced - set(wanted.ahead):
        return Step.SHUT, "a change of Secure Boot is announced no more"
    if set(wanted.ahead) - announced:
        return Step.ADD, "a change of Secure Boot is announced"
    return Step.NONE, ""


def terms(sealed: SealedKey, wanted: Wanted, counter: int) -> Terms:
    """The terms under which the key is sealed anew so that what was sealed before opens no more.

    What a policy key signed opens until the epoch rises, and so the key changes with the epoch only. Local PCRs are
    only ever added. Releases enter the sealed floor with the epoch, since inside one a rollback is allowed.

    Args:
        sealed: the key as it lies on the disk.
        wanted: see there.
        counter: the host's counter now, not below the one of ``sealed``.

    Raises:
        ValueError: it is below, so that an older raise was not finished: a bug.
    """
    if counter < sealed.counter:
        raise ValueError("the counter has not followed the key of before")
    rises = wanted.epoch > sealed.epoch
    known = sealed.floor or SealedFloor(root=wanted.floor.root)
    return Terms(
        channel=wanted.channel if rises else sealed.channel,
        epoch=wanted.epoch if rises else sealed.epoch,
        key=wanted.key if rises else sealed.key,
        counter=counter + 1,
        local_pcrs=tuple(sorted({*sealed.local_pcrs, *wanted.local_pcrs})),
        floor=SealedFloor(
            root=max(known.root, wanted.floor.root),
            releases=wanted.floor.releases if rises else known.releases,
        ),
    )
