# SPDX-License-Identifier: Apache-2.0
"""What can go wrong where a repository is written. What was published before still stands.

This module does not decide what happens next.
"""

from __future__ import annotations

from documents.errors import Exit
from updater.errors import UpdaterError


class RepositoryDamaged(UpdaterError):
    """A repository that is written or checked here is not consistent."""

    code = "UP015"
    exit = Exit.REFUSED
    explanation = "Files of a repository are missing, damaged or do not belong together. It must not be published."


class ReleaseRefused(UpdaterError):
    """A release may not be published."""

    code = "UP016"
    exit = Exit.POLICY
    explanation = (
        "A release was not published: its number is not above the channel's last one, or the files given are not "
        "exactly its artifacts."
    )


class CannotServe(UpdaterError):
    """There is no repository to serve, or it cannot be served at an address."""

    code = "UP018"
    explanation = "The folder given to `vmgate repo serve` holds no repository, or it could not listen at its address."


class RepositoryExists(UpdaterError):
    """A repository was to be made where one is."""

    code = "UP020"
    explanation = "A repository is never written over: its keys and numbers would be lost. Choose another folder."


class NoSuchHost(UpdaterError):
    """A host has no assignment to show or remove."""

    code = "UP033"
    exit = Exit.NOT_FOUND
    explanation = "The repository has no assignment for a host of that name."


class NoAssignments(UpdaterError):
    """A repository has no assignments role, or has one already."""

    code = "UP034"
    explanation = (
        "Assignments need a role of their own, which the targets keys delegate once: `vmgate repo assign init`. "
        "A repository has at most one."
    )


class SignersMissing(UpdaterError):
    """Not enough keys of a role are at hand, or not enough have signed."""

    code = "UP021"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "A role of the repository needs more signatures than the keys at hand can give. Nothing was published. Bring "
        "the keys, or let their owners sign where the keys are: give --request FILE to the operation, run `vmgate repo "
        "sign` there, and `vmgate repo merge` here."
    )


class RequestStale(UpdaterError):
    """A signing request is about an older state of the repository."""

    code = "UP022"
    exit = Exit.POLICY
    explanation = (
        "What a signing request wants to follow is not what the repository has now: something was published meanwhile, "
        "or the request was published already. Its signatures are of no use any more. Make the request again."
    )


class RequestMalformed(UpdaterError):
    """A signing request holds something that may not be signed."""

    code = "UP023"
    exit = Exit.REFUSED
    explanation = (
        "A signing request does not hold what it says: metadata of another role, a release that its metadata does not "
        "name, or two files that are not about the same change. Nothing was signed or published."
    )


class NoSuchRole(UpdaterError):
    """A role is named that the repository does not have."""

    code = "UP024"
    exit = Exit.NOT_FOUND
    explanation = (
        "The repository has no role of that name, or it is renewed in another way: snapshot and timestamp by `vmgate "
        "repo refresh`. Roles are root, targets, snapshot, timestamp, and releases-CHANNEL for each channel."
    )


class RotationRefused(UpdaterError):
    """A role cannot have these keys."""

    code = "UP025"
    exit = Exit.POLICY
    explanation = (
        "A rotation would leave a role with a threshold that its keys cannot reach, names a key that is not there, or "
        "gives a key to two roles. The keys are as they were."
    )


class NoSuchRelease(UpdaterError):
    """A release is named that a channel does not list."""

    code = "UP038"
    exit = Exit.NOT_FOUND
    explanation = "The repository's channel does not list a release of that number: it never was, or it was pruned."
