# SPDX-License-Identifier: Apache-2.0
"""Taking a release back. Pure.

A release is never changed under its number and no host goes back to a lower one, so a bad release is answered by a new
one: the content of a good release, under the next number, and on its list of refused digests all that only the bad one
brought. Hosts update to it as to any other, and start nothing of the bad release any more. Those that never look again
are not reached by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from documents.host_image import HostImage
from documents.release import Release
from measure.predict import PolicySigner
from publisher.errors import NothingToRevoke
from publisher.plan import checked, with_policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What is taken back.

    Attributes:
        channel: whose release.
        number: of the bad release.
        good: number of the release whose content comes instead; 0 for the newest other one.
        raise_epoch: shut all older releases out for good, so that no host can roll back to the bad one.
    """

    channel: str
    number: int
    good: int = 0
    raise_epoch: bool = False


def choose(numbers: Sequence[int], wanted: Revocation) -> int:
    """The number of the release whose content comes instead.

    Args:
        numbers: of the channel's releases, newest first.
        wanted: what is taken back.

    Raises:
        NothingToRevoke: there is no other release.
    """
    others = [number for number in numbers if number != wanted.number]
    if wanted.good in others:
        return wanted.good
    if wanted.good or not others:
        raise _nothing(
            f"{wanted.channel} has no {f'release {wanted.good}' if wanted.good else 'other release'} to offer"
        )
    return others[0]


def plan_revocation(wanted: Revocation, bad: Release, good: Release, newest: Sequence[Release]) -> Release:
    """Plan the release that takes a workload's back.

    Args:
        wanted: what is taken back.
        bad: the bad release.
        good: the one whose content comes instead.
        newest: the channel's newest releases, newest first.

    Raises:
        NothingToRevoke: the bad one brought nothing that the good one does not bring.
        PlanRefused: the good one brings what is refused already.
    """
    return checked(_successor(wanted, bad, good, newest[0]))


def plan_platform_revocation(
    wanted: Revocation,
    bad: Release,
    good: Release,
    newest: Sequence[Release],
    signers: Sequence[PolicySigner],
    image: HostImage | None,
) -> Release:
    """The same for a platform's, with TPM policies for its new number.

    Args:
        wanted: what is taken back.
        bad: the bad release.
        good: the one whose content comes instead.
        newest: the channel's newest releases, newest first: a live switch from them is supported.
        signers: hold the TPM policy keys, the current one first.
        image: what the hosts of the good one boot.

    Raises:
        NothingToRevoke: the bad one brought nothing that the good one does not bring.
        PlanRefused: the good one brings what is refused already.
        PolicyRefused: the signer does not sign what it is asked for.
    """
    planned = _successor(wanted, bad, good, newest[0])
    return checked(with_policies(planned, signers, newest, image))


def _successor(wanted: Revocation, bad: Release, good: Release, newest: Release) -> Release:
    kept = {artifact.fsverity for artifact in good.artifacts}
    gone = [artifact.fsverity for artifact in bad.artifacts if artifact.fsverity not in kept]
    if not gone:
        raise _nothing(f"{bad.channel} {bad.number} brought nothing that {good.number} does not bring")
    if set(gone) <= set(newest.refused) and not wanted.raise_epoch:
        raise _nothing(f"{bad.channel} {newest.number} refuses all of {bad.number} already")
    return replace(
        good,
        number=newest.number + 1,
        epoch=max(newest.epoch, good.epoch) + int(wanted.raise_epoch),
        refused=tuple(dict.fromkeys([*newest.refused, *good.refused, *gone])),
    )


def _nothing(why: str) -> NothingToRevoke:
    return NothingToRevoke(
        "nothing was taken back", cause=why, remedy="publish a corrected release with the digests in `refused`"
    )
