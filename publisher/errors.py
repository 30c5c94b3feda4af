# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while a release is made. Nothing was published when one of these is raised.

This module does not decide what happens next.
"""

from __future__ import annotations

from documents.errors import DocumentError, Exit, VmgateError


class PublisherError(VmgateError):
    """The root of this package's errors, except ``RecipeWrong``."""

    code = "PB000"
    explanation = "A release could not be made. Nothing was published."


class RecipeWrong(DocumentError):
    """A TOML file that people write is not in its form."""

    code = "PB001"
    exit = Exit.USAGE
    explanation = (
        "A recipe, VM definition or security policy in TOML has a mistake: a syntax error, a key that is unknown, "
        "missing or given twice, or a value out of its bounds. The message names the line where it can."
    )


class PackageUnusable(PublisherError):
    """A Debian package or wheel cannot be listed."""

    code = "PB002"
    exit = Exit.REFUSED
    explanation = (
        "A Debian package or the vmgate wheel is damaged, too large, or holds something that a host could not compare: "
        "a file name with unusual characters, a file that two packages bring, a link to nowhere."
    )


class ProgramFailed(PublisherError):
    """A program that the publisher stands on is missing, failed or did not end."""

    code = "PB003"
    explanation = (
        "A separate program (dpkg-deb, virt-fw-vars, sbsign, sbverify, veritysetup, tar, mkfs.erofs) is not installed, "
        "reported a failure or did not end in time. What it said is in the message."
    )


class FirmwareWrong(PublisherError):
    """A firmware variables template holds something else than the publisher's own keys."""

    code = "PB004"
    exit = Exit.REFUSED
    explanation = (
        "After enrolment the firmware variables template must hold the publisher's PK, KEK and db, Secure Boot on, and "
        "nothing else. It holds something else, most often because the template given was not blank. It was not kept."
    )


class PlanRefused(PublisherError):
    """The release asked for would not be a good one."""

    code = "PB005"
    exit = Exit.POLICY
    explanation = (
        "The recipe was read, but the release would break a rule: a number or security epoch that does not grow, a "
        "name given twice, a VM beyond the limits, a digest both delivered and refused. The message says which."
    )


class HostImageWrong(PublisherError):
    """What a host is to boot cannot be described."""

    code = "PB006"
    exit = Exit.REFUSED
    explanation = (
        "The unified kernel image or the root of a host image cannot be described: the kernel image is damaged, not "
        "signed for db, made with another stub or without exactly one roothash, or a file of the root has no place on "
        "the list. The message names the file."
    )


class VmmWrong(PublisherError):
    """The VMM image asked for would not run, or not from itself alone."""

    code = "PB007"
    exit = Exit.REFUSED
    explanation = (
        "The packages given do not make a VMM image: one that another needs is missing or of a version that will not "
        "do, two bring the same file, a program or a library that one is linked with is not there, or a library would "
        "be looked for on the host. The message names it."
    )


class NoSuchKeyId(PublisherError):
    """A key is named by an id that the role does not have."""

    code = "PB090"
    exit = Exit.NOT_FOUND
    explanation = (
        "A key that is to leave a role is named by the first eight or more characters of its id. The ids stand in the "
        "metadata of root (for root, targets, snapshot and timestamp) and of targets (for channels)."
    )


class NothingToRevoke(PublisherError):
    """A release cannot be taken back."""

    code = "PB091"
    exit = Exit.POLICY
    explanation = (
        "A release is taken back by a new one, with the content of another release, that refuses what only the bad one "
        "brought. There is no other release, or it brought nothing that the other does not bring too. Publish a "
        "corrected release with the digests in `refused` instead."
    )
