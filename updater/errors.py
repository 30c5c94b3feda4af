# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with updates. Where an update is refused, the host stays in the generation that it is in.

This module does not decide what happens next.
"""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class UpdaterError(VmgateError):
    """The root of this package's errors."""

    code = "UP000"
    explanation = "An update did not happen. The active generation is unchanged."


class Unreachable(UpdaterError):
    """The repository did not answer, or broke off; ``another``: and another server is left that may not."""

    another: bool = False
    code = "UP001"
    exit = Exit.UNREACHABLE
    explanation = (
        "The repository could not be reached, broke off, or answered with something that is no file of a repository. "
        "What was already fetched is kept. An offline bundle needs no network: `vmgate update import BUNDLE`."
    )


class TimedOut(UpdaterError):
    """The repository was too slow."""

    code = "UP002"
    exit = Exit.TIMED_OUT
    explanation = "The repository answered more slowly than vmgate accepts. What was already fetched is kept."


class NotOffered(UpdaterError):
    """The repository or bundle does not have a file."""

    code = "UP003"
    exit = Exit.NOT_FOUND
    explanation = (
        "The repository or bundle does not have a file that its own metadata names. It is not complete. A bundle made "
        "with --for or --have leaves out what one host has: another host needs one made for its own `vmgate status "
        "--save FILE`, or one made for every host, without these options."
    )


class MetadataRefused(UpdaterError):
    """Metadata is not what the trust anchor leads to."""

    code = "UP004"
    exit = Exit.REFUSED
    explanation = (
        "Metadata or a release document was unsigned, older than what this host has seen, of the wrong digest or "
        "length, or malformed. Somebody between you and the publisher may have changed it. Nothing of it was used."
    )


class MetadataExpired(UpdaterError):
    """Metadata is out of date: nobody can tell whether it is still the newest.

    Attributes:
        role: whose metadata.
        expired: the date, in ISO 8601.
    """

    code = "UP005"
    exit = Exit.REFUSED
    explanation = (
        "Signed metadata has expired, so that it may hide a newer release. Either the publisher did not refresh it, "
        "somebody keeps newer metadata from this host, or this host's clock is wrong."
    )

    def __init__(self, role: str, expired: str) -> None:
        super().__init__(
            "the update was refused",
            cause=f"the metadata of {role} expired on {expired}",
            remedy="check this host's clock, then ask the publisher to refresh the repository",
        )
        self.role = role
        self.expired = expired


class WrongAnchor(MetadataRefused):
    """Nobody whom the trust anchor leads to has signed what the repository says."""

    code = "UP006"
    explanation = (
        "The repository's root or timestamp is not signed by the keys that this host's trust anchor leads to. Either "
        "it is another repository than you mean, or somebody forged it."
    )


class BelowFloor(UpdaterError):
    """Something is older than what this host has already accepted."""

    code = "UP007"
    exit = Exit.REFUSED
    explanation = (
        "A validly signed release or root is older than one that this host has confirmed. Taking it would bring back "
        "old faults. The floor of a host only rises."
    )


class ClockWrong(UpdaterError):
    """The clock contradicts signed times."""

    code = "UP008"
    exit = Exit.NOT_READY
    explanation = (
        "This host's clock shows a time that is certainly past, or one before the publication of what is offered. "
        "Expiry cannot be judged with it. Set the clock and try again. If it is right, it was ahead before: "
        "wait, or ask the publisher to rotate the timestamp key, which lets hosts believe their clocks again."
    )


class Incompatible(UpdaterError):
    """The releases offered do not fit each other or this host."""

    code = "UP009"
    exit = Exit.POLICY
    explanation = (
        "No set of the releases that are offered fits: a workload does not accept the platform release, a release "
        "needs a newer vmgate, names refused bytes, or failed or was rolled back on this host before."
    )


class BundleMalformed(UpdaterError):
    """A file is not a bundle, or not a whole one."""

    code = "UP010"
    exit = Exit.REFUSED
    explanation = "An offline bundle is cut off, too long, or not a bundle. Copy it again from its source."


class NoSuchChannel(UpdaterError):
    """The repository does not release a channel."""

    code = "UP011"
    exit = Exit.NOT_FOUND
    explanation = "The repository has no release of a channel that this host follows, or that was to be published."


class ImportTooLate(UpdaterError):
    """The days are over in which an offline bundle of this release may be applied."""

    code = "UP012"
    exit = Exit.REFUSED
    explanation = (
        "A release says for how many days after its publication it may be imported with expired metadata. "
        "They are over. Get a newer bundle. Where there is none, root may answer for it: `vmgate update import BUNDLE "
        "--allow-stale DAYS --reason TEXT` counts DAYS from the publication, and is recorded."
    )


class NoGeneration(UpdaterError):
    """There is no generation to use or to go back to."""

    code = "UP013"
    exit = Exit.NOT_FOUND
    explanation = "This host has no active generation yet, or none to go back to."


class RollbackRefused(UpdaterError):
    """The previous generation is of an older security epoch."""

    code = "UP014"
    exit = Exit.POLICY
    explanation = (
        "The active release raised the security epoch and was confirmed, so its keys no longer open in an older state. "
        "Inside an epoch a rollback works."
    )


class StateInconsistent(UpdaterError):
    """The update state on this host contradicts itself."""

    code = "UP017"
    exit = Exit.NOT_READY
    explanation = (
        "The journal names a generation that is not there. Nobody but vmgate should write in its state folder. "
        "Restore it from a backup or set the host up anew."
    )


class NotConfirmed(UpdaterError):
    """The last update has not shown yet that it works."""

    code = "UP019"
    exit = Exit.NOT_READY
    explanation = (
        "The active generation was switched to, but its health check is not done. Until it is confirmed or rolled back "
        "no other update begins, since there must be a good generation to go back to."
    )


class PackMalformed(UpdaterError):
    """A pack or a delta is not what its format says, or belongs to another artifact.

    Attributes:
        another: whether another server is left that may have the right one.
    """

    another: bool = False

    code = "UP040"
    exit = Exit.REFUSED
    explanation = (
        "A pack or a delta, from which an artifact is put together, is damaged or was changed on the way. It carries "
        "no trust and nothing of it was used. Another mirror, or the whole artifact, is tried where there is one."
    )


class NotRanged(UpdaterError):
    """A server that gives whole files only was asked for a part of one."""

    code = "UP041"
    exit = Exit.UNREACHABLE
    explanation = (
        "The web server does not answer requests for ranges of a file (RFC 9110, section 14). Updates work, but whole "
        "files are fetched, from their beginning, where otherwise only what changed would be."
    )


class NotAssigned(UpdaterError):
    """This host follows assignments and has none."""

    code = "UP030"
    exit = Exit.REFUSED
    explanation = (
        "This host is set up to follow assignments, and its repository has none for it. It takes nothing until it has "
        "one: ask who runs the fleet, or compare `host` in vmgate.toml with `vmgate repo assign list`."
    )


class AssignmentExpired(UpdaterError):
    """The assignment of this host is out of date."""

    code = "UP031"
    exit = Exit.REFUSED
    explanation = (
        "This host's assignment has expired, so that it may no longer be what the fleet wants. The host keeps what it "
        "has until there is a newer assignment."
    )


class AssignmentRefused(UpdaterError):
    """An assignment is not what its listing says."""

    code = "UP032"
    exit = Exit.REFUSED
    explanation = "An assignment was listed with another length or digest than it has, or without content."


class ServerNotTrusted(Unreachable):
    """The server's certificate leads to nobody whom this host believes."""

    code = "UP035"
    explanation = (
        "The server of the repository or of a mirror has a certificate that is expired, of another name, or signed by "
        "nobody whom this host believes. With ca_file in vmgate.toml only certificates in that file count; neither the "
        "environment nor a home folder adds any. What is fetched is checked in any case; the connection was not used."
    )


class CertificatesUnusable(UpdaterError):
    """The file of certificates cannot be used."""

    code = "UP036"
    exit = Exit.NOT_READY
    explanation = "The file that ca_file in vmgate.toml names cannot be read, or holds no certificates in PEM."


class NoServerLeft(UpdaterError):
    """Every server gave wrong bytes."""

    code = "UP037"
    exit = Exit.REFUSED
    explanation = (
        "The repository and each mirror gave bytes that are not what was signed, so none of them is asked any more "
        "during this update. Nothing of it was used. Something on the way to all of them, such as a proxy, may change "
        "files; an offline bundle goes another way: `vmgate update import BUNDLE`."
    )


class SiteOverreached(UpdaterError):
    """A site's repository offers what is its vendor's alone."""

    code = "UP050"
    exit = Exit.REFUSED
    explanation = (
        "A host may follow a site's own repository on top of its vendor's, for workloads. The site's offers a platform "
        "release, or a VM of a name that the vendor's releases have. Nothing of either was taken."
    )
