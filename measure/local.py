# SPDX-License-Identifier: Apache-2.0
"""What is local to a host, such as its command line and settings, and whose word there is for it (check 9).

The publisher's word comes first, where a host image or a list of packages' files says what a thing is; then, for all
that the publisher says nothing of, the site's, where the release has a baseline for all hosts; then the baseline that
the host's administrator approved. The signed policy says whether that is enough. This module does no I/O and measures
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from content.fsverity import digest_bytes
from documents.host_files import ABSENT, HostFiles
from documents.host_image import HostImage
from documents.local_listing import MAX_FILES, UNREADABLE, ListedFile, LocalListing, shown_name
from documents.verdict import Finding
from measure.baseline import Approved
from measure.cel import CelRecord
from measure.findings import NOTHING, compare, finding
from measure.pcr import LAUNCH_PCR

LOCAL_FILES: Mapping[str, str] = MappingProxyType(
    {
        "host/libvirtd": "/usr/sbin/libvirtd",
        "host/qemu.conf": "/etc/libvirt/qemu.conf",
        "host/settings": "/etc/vmgate/vmgate.toml",
        "host/libvirtd.conf": "/etc/libvirt/libvirtd.conf",
        "host/virtqemud.conf": "/etc/libvirt/virtqemud.conf",
    }
)
"""Files that a host measures as its own, by the subject of their events. ``qemu.conf`` says how libvirt isolates QEMU:
its user, sVirt, seccomp; the daemons' own, who may reach them."""

DAEMON = "host/libvirtd"
SETTINGS = "host/settings"
COMMAND_LINE = "host/kernel-command-line"
PROGRAMS = "host/libvirt-programs"
HOOKS = "host/libvirt-hooks"
MORE_SETTINGS = "host/settings.d"
BASELINE = "host/baseline"
"""The signed baseline itself: which one there was is measured, so that evidence tells it."""

HOOKS_FOLDER = "/etc/libvirt/hooks"
SETTINGS_FOLDER = "/etc/vmgate/conf.d"
OWN_HOOK = "qemu"
"""vmgate's own hook. It is a component of the platform release; here only its rights count."""

SUBJECTS = frozenset({COMMAND_LINE, PROGRAMS, HOOKS, MORE_SETTINGS, *LOCAL_FILES})
"""All that a host of this vmgate measures of its own, besides the baseline."""

PROGRAM_FOLDERS = (
    "/usr/sbin", "/usr/lib/libvirt", "/usr/libexec", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
)  # fmt: skip
"""Where packages put libvirt's programs, in Debian and in Fedora. Only ``libvirt`` folders in them are gone through."""

_PROGRAM = re.compile(
    r"/usr/(?:sbin/(?:libvirtd|virt[a-z]+d)|lib/libvirt/.+|libexec/libvirt_[^/]+|libexec/virt-[^/]+"
    r"|lib(?:64|/x86_64-linux-gnu|/aarch64-linux-gnu)/(?:libvirt/.+|libvirt[^/]*\.so[^/]*))"
)

BOOT = "host/boot"
"""What names the boot, by the kernel's word, so that no two boots have the same log. Nobody vouches for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Whose word there is for what is local.

    Attributes:
        publisher: digests by subject, see ``local_reference``.
        site: digests that the release approves for all hosts, by subject.
        approved: the baseline, if its signature was verified and the platform release's policy key allowed it.
        needed: one of ``documents.security_policy.LOCAL``.
    """

    publisher: Mapping[str, str] = field(default_factory=dict)
    site: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    approved: Approved | None = None
    needed: str = "any"


def local_findings(records: Iterable[CelRecord], words: Words) -> Iterator[Finding]:
    """One finding for each host-local thing that was measured, or that had to be.

    What was measured last counts: a thing that was changed and then approved within a boot is measured again. Where a
    publisher says what it is, it must have been that all the time.
    """
    events = [entry.content for entry in records if entry.pcr == LAUNCH_PCR and entry.content.event == "host"]
    unjudged = (BASELINE, BOOT)
    measured = dict.fromkeys((event.subject, event.fsverity) for event in events if event.subject not in unjudged)
    last = {event.subject: event.fsverity for event in events}
    needed = set(words.publisher) if words.needed == "any" else set(SUBJECTS)
    if words.needed == "any" and BASELINE not in last:
        # An older vmgate measured fewer things and no baseline, and no policy asked for more.
        needed &= FIRST_SUBJECTS
    needed |= words.site.keys()
    for subject in sorted(needed - last.keys()):
        expected = words.publisher.get(subject, "measured")
        yield finding("host-local", subject, expected, NOTHING, good=False)
    for subject, digest in measured:
        if subject in words.publisher or digest == last[subject]:
            yield judge_local("host-local", subject, digest, words)
    if words.approved is not None:
        # Else an old baseline could be shown beside the log of a host that has a newer one.
        yield compare("baseline", BASELINE, last.get(BASELINE, ""), words.approved.fsverity, authority="local")


FIRST_SUBJECTS = frozenset({COMMAND_LINE, "host/libvirtd", "host/qemu.conf", "host/settings"})
"""What every version of vmgate measured."""


def judge_local(check: str, subject: str, found: str, words: Words) -> Finding:
    """Judge one thing by the word that there is for it.

    Args:
        check: name of the check. What fails for want of a word is a check of its own, ``not-approved`` or
            ``local-policy``: its way out is another.
        subject: of the event.
        found: digest.
        words: whose word there is.
    """
    publisher = words.publisher.get(subject)
    if publisher is not None:
        return compare(check, subject, publisher, found)
    if found == UNREADABLE:
        return finding(check, subject, "something that can be measured", "nothing", good=False, authority="none")
    site = words.site.get(subject, ())
    if found in site:
        return finding(check, subject, found, found, good=True, authority="site")
    if words.needed == "publisher":
        expected = _one_of(site) if site else "a value of the publisher's"
        return finding("local-policy", subject, expected, found, good=False)
    approved = dict(words.approved.baseline.entries) if words.approved else {}
    if approved.get(subject) == found:
        return finding(check, subject, found, found, good=True, authority="local")
    authority = "local" if subject in approved else "none"
    if words.needed == "approved":
        nobody = _one_of(site) if site else "what the administrator approved, and nobody approved it"
        expected = approved.get(subject, nobody)
        return finding("not-approved", subject, expected, found, good=False, authority=authority)
    return Finding(
        check=check,
        subject=subject,
        outcome="warn",
        expected=approved.get(subject, _one_of(site) if site else "recorded, no baseline approved"),
        found=found,
        authority=authority,
    )


def _one_of(digests: tuple[str, ...]) -> str:
    """What a site approved, for people: verdicts have no room for hundreds."""
    return digests[0] if len(digests) == 1 else f"one of {len(digests)} that the site approved"


def local_reference(image: HostImage | None, packages: HostFiles | None = None) -> dict[str, str]:
    """Digests of host-local things that the publisher vouches for, by the subject of their events.

    Args:
        image: what hosts of the release boot: it says all of it, also what is not there.
        packages: files of libvirt's packages, where there is no image.
    """
    if image is None:
        return _of_packages(packages) if packages else {}
    files = {entry.path: entry.fsverity for entry in image.files}
    settings = LOCAL_FILES[SETTINGS]
    found = {
        COMMAND_LINE: digest_bytes(image.command_line.encode() + b"\n"),
        **{subject: files.get(path, ABSENT) for subject, path in LOCAL_FILES.items() if path != settings},
        PROGRAMS: programs_digest(files),
        HOOKS: _below(HOOKS_FOLDER, files, {OWN_HOOK}),
    }
    # A host without settings is none: those of an image without them come from elsewhere.
    if settings in files:
        found |= {SETTINGS: files[settings], MORE_SETTINGS: _below(SETTINGS_FOLDER, files, ())}
    return found


def _of_packages(packages: HostFiles) -> dict[str, str]:
    files = {entry.path: entry.fsverity for entry in packages.files}
    daemon = files.get(LOCAL_FILES[DAEMON])
    found = {DAEMON: daemon} if daemon else {}
    return found | ({PROGRAMS: programs_digest(files)} if any(map(is_libvirt_program, files)) else {})


def is_libvirt_program(path: str) -> bool:
    """Whether a file belongs to libvirt's daemons: one of them, a driver, a library or a program that they start."""
    return _PROGRAM.fullmatch(path) is not None


def programs_digest(files: Mapping[str, str]) -> str:
    """The digest of the list of libvirt's programs among files.

    Args:
        files: digests by absolute path.
    """
    listed = (ListedFile(path=path, fsverity=digest) for path, digest in files.items() if is_libvirt_program(path))
    return listing_digest(listed)


def listing_digest(files: Iterable[ListedFile]) -> str:
    """The digest of a list; UNREADABLE for one that is too long to be meant."""
    listed = tuple(sorted(files, key=lambda entry: entry.path))
    return digest_bytes(LocalListing(files=listed).encode()) if len(listed) <= MAX_FILES else UNREADABLE


def _below(folder: str, files: Mapping[str, str], own: Iterable[str]) -> str:
    """The list of a folder of an image, in which root owns all and hooks may be run."""
    inside = {
        path.removeprefix(folder + "/"): digest for path, digest in files.items() if path.startswith(folder + "/")
    }
    return listing_digest(
        ListedFile(path=shown_name(path.encode()), fsverity=ABSENT if path in own else digest)
        for path, digest in inside.items()
    )
