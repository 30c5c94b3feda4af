# SPDX-License-Identifier: Apache-2.0
"""What is local to a host, such as its command line and settings, and whose word there is for it (check 9).

This module does no I/O and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from content.fsverity import digest_bytes
from documents.host_image import HostImage
from documents.verdict import Finding
from measure.cel import CelRecord
from measure.findings import compare
from measure.pcr import LAUNCH_PCR

LOCAL_FILES: Mapping[str, str] = MappingProxyType(
    {
        "host/libvirtd": "/usr/sbin/libvirtd",
        "host/qemu.conf": "/etc/libvirt/qemu.conf",
        "host/settings": "/etc/vmgate/vmgate.toml",
    }
)
"""Files that a host measures as its own, by the subject of their events. ``qemu.conf`` says how libvirt isolates QEMU:
its user, sVirt, seccomp."""

COMMAND_LINE = "host/kernel-command-line"

BOOT = "host/boot"
"""What names the boot, by the kernel's word, so that no two boots have the same log. Nobody vouches for it."""


def local_findings(records: Iterable[CelRecord], image: HostImage | None) -> Iterator[Finding]:
    """One finding for each host-local thing that was measured, or that the host image names."""
    events = (entry.content for entry in records if entry.pcr == LAUNCH_PCR and entry.content.event == "host")
    expected = local_reference(image)
    found = dict.fromkeys((event.subject, event.fsverity) for event in events if event.subject != BOOT)
    for subject in expected.keys() - {name for name, _ in found}:
        yield compare("host-local", subject, expected[subject], "")
    for subject, digest in found:
        if subject in expected:
            yield compare("host-local", subject, expected[subject], digest)
            continue
        yield Finding(
            check="host-local",
            subject=subject,
            outcome="warn",
            expected="recorded, no baseline approved",
            found=digest,
            authority="none",
        )


def local_reference(image: HostImage | None) -> dict[str, str]:
    """Digests of host-local things that the image's publisher vouches for, by the subject of their events."""
    if image is None:
        return {}
    files = {entry.path: entry.fsverity for entry in image.files}
    named = {subject: files[path] for subject, path in LOCAL_FILES.items() if path in files}
    return {COMMAND_LINE: digest_bytes(image.command_line.encode() + b"\n"), **named}
