# SPDX-License-Identifier: Apache-2.0
"""What a platform release lets its hosts accept. Absent means no.

Accepting less than the best is spelled out by name. This module does not decide anything; ``measure`` and
``agent.gate`` ask it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.definition import DISK_CLASSES
from documents.document import Document
from documents.fields import NAME, SLASHED, Fields
from documents.host_devices import DEVICE_KINDS
from documents.host_networks import NETWORK_KINDS
from documents.revocation import DEFAULT, Revocation, read_revocation
from documents.verdict import VERDICT_SECONDS

LOCAL_VMS = "AllowLocal"
ALLOWANCES = ("AllowEmulation", LOCAL_VMS, "AllowSelfMeasured", "AllowSoftwareTpm")
"""AllowEmulation: QEMU's TCG, which promises no isolation. AllowLocal: VMs that an administrator of the host made and
its local authority signed. AllowSelfMeasured: assurance level L1. AllowSoftwareTpm: assurance level L0."""

LOCAL = ("any", "approved", "publisher")
"""Who has to vouch for what is local to a host and that the publisher does not name. ``any``: nobody, and it is told;
``approved``: the administrator's baseline; ``publisher``: nobody may, so that all of it must be named."""

KERNEL_ARGUMENT = re.compile(r"[A-Za-z0-9._,=:/@%+*?-]{1,120}")
"""A word of a kernel command line; ``*`` stands for any text and ``?`` for any character."""

MAX_ARGUMENTS = 64
COLLECTED = ("boot_log", "ima")
"""Members of the evidence that a host sends only when it is asked to."""


SHORTEST, LONGEST = 60, 604_800
"""Seconds for which a verdict may be relied on: from a minute to a week."""
DIGESTS = ("always", "once-per-boot")
"""How often a file without fs-verity is read to be measured: before each start; or once in a boot, where only root can
change it. The first is the default."""
DRIFT = ("suspend", "kill")
"""What is done with a VM that runs as it was not let start, or that nobody let start. The first is the default."""

STATELESS = ("ephemeral", "readonly")
"""Classes of disks of which nothing is left when a VM stops: what a policy allows that says nothing of disks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy(Document):
    """The rules of one platform release.

    Attributes:
        allow: names from ``ALLOWANCES``, sorted.
        max_vcpus: most virtual processors of one VM.
        max_memory_mib: most memory of one VM, in MiB.
        local: one of ``LOCAL``.
        kernel_required: patterns; each must fit a word of the host's kernel command line. Sorted.
        kernel_denied: patterns; none may fit. Sorted.
        warn_only: components whose other digest is a warning and no failure; all others are enforced.
        verdict_seconds: for how long a verdict by this policy may be relied on.
        collect: names from ``COLLECTED``, sorted; None, and then absent: all of them where the platform release has a
            host image to compare them with, none where it has not.
        digests: one of ``DIGESTS``; absent where it is the default.
        disks: classes of disks that VMs may have, sorted; absent where it is ``STATELESS``.
        networks: kinds of networks that VMs may stand on, sorted; absent for none.
        devices: kinds from ``DEVICE_KINDS`` that VMs may have, sorted; absent for none.
        drift: one of ``DRIFT``; absent where it is the default.
        revocation: what becomes of a running VM that was taken back; absent where it is the default.
    """

    TYPE: ClassVar[str] = "vmgate.security-policy"
    LIMIT: ClassVar[int] = 10_000

    allow: tuple[str, ...]
    max_vcpus: int
    max_memory_mib: int
    local: str = "any"
    kernel_required: tuple[str, ...] = ()
    kernel_denied: tuple[str, ...] = ()
    warn_only: tuple[str, ...] = ()
    verdict_seconds: int = VERDICT_SECONDS
    collect: tuple[str, ...] | None = None
    digests: str = DIGESTS[0]
    disks: tuple[str, ...] = STATELESS
    networks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    drift: str = DRIFT[0]
    revocation: Revocation = DEFAULT

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def allowance(untrusted: Json) -> str:
            if not isinstance(untrusted, str) or untrusted not in ALLOWANCES:
                raise fields.wrong("allow", "names something that is not known")
            return untrusted

        policy = cls(
            allow=fields.take_list("allow", allowance, len(ALLOWANCES)),
            max_vcpus=fields.take_int("max_vcpus", 1, 255),
            max_memory_mib=fields.take_int("max_memory_mib", 64, 2**22),
            local=fields.take_choice("local", LOCAL[1:]) if fields.has("local") else "any",
            kernel_required=_arguments(fields, "kernel_required"),
            kernel_denied=_arguments(fields, "kernel_denied"),
            warn_only=_read_warn_only(fields),
            verdict_seconds=_read_verdict_seconds(fields),
            collect=_read_collect(fields),
            digests=fields.take_choice("digests", DIGESTS[1:]) if fields.has("digests") else DIGESTS[0],
            disks=_read_disks(fields),
            networks=_read_kinds(fields, "networks", NETWORK_KINDS),
            devices=_read_kinds(fields, "devices", DEVICE_KINDS),
            drift=fields.take_choice("drift", DRIFT[1:]) if fields.has("drift") else DRIFT[0],
            revocation=read_revocation(fields.take("revocation")) if fields.has("revocation") else DEFAULT,
        )
        if list(policy.allow) != sorted(set(policy.allow)):
            raise fields.wrong("allow", "is not sorted")
        return policy

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        # Absent in their default, so that policies from before these members keep their bytes.
        return {
            "allow": list(self.allow),
            "max_vcpus": self.max_vcpus,
            "max_memory_mib": self.max_memory_mib,
            **({"local": self.local} if self.local != "any" else {}),
            **({"kernel_required": list(self.kernel_required)} if self.kernel_required else {}),
            **({"kernel_denied": list(self.kernel_denied)} if self.kernel_denied else {}),
            **({"warn_only": list(self.warn_only)} if self.warn_only else {}),
            **({"verdict_seconds": self.verdict_seconds} if self.verdict_seconds != VERDICT_SECONDS else {}),
            **({"collect": list(self.collect)} if self.collect is not None else {}),
            **({"digests": self.digests} if self.digests != DIGESTS[0] else {}),
            **({"disks": list(self.disks)} if self.disks != STATELESS else {}),
            **({"networks": list(self.networks)} if self.networks else {}),
            **({"devices": list(self.devices)} if self.devices else {}),
            **({"drift": self.drift} if self.drift != DRIFT[0] else {}),
            **({"revocation": self.revocation.members()} if self.revocation != DEFAULT else {}),
        }

    def collects(self, *, host_image: bool) -> frozenset[str]:
        """Which members evidence must hold where it can, and may hold at all, besides those that it always has.

        Of ``COLLECTED``, and the kernel's command line where something is required of it; else it is nobody's business.

        Args:
            host_image: whether the platform release has a host image.
        """
        chosen = self.collect if self.collect is not None else COLLECTED if host_image else ()
        return frozenset((*chosen, *(("command_line",) if self.kernel_required or self.kernel_denied else ())))


def _arguments(fields: Fields, name: str) -> tuple[str, ...]:
    if not fields.has(name):
        return ()
    found = fields.take_texts(name, KERNEL_ARGUMENT, MAX_ARGUMENTS, 120)
    if not found or list(found) != sorted(found):
        raise fields.wrong(name, "is empty or not sorted")
    return found


def _read_warn_only(fields: Fields) -> tuple[str, ...]:
    if not fields.has("warn_only"):
        return ()
    names = fields.take_texts("warn_only", SLASHED, 64, 120)
    if not names:
        raise fields.wrong("warn_only", "is there and empty")
    return names


def _read_verdict_seconds(fields: Fields) -> int:
    if not fields.has("verdict_seconds"):
        return VERDICT_SECONDS
    seconds = fields.take_int("verdict_seconds", SHORTEST, LONGEST)
    if seconds == VERDICT_SECONDS:
        raise fields.wrong("verdict_seconds", "is there and what it would be without")
    return seconds


def _read_collect(fields: Fields) -> tuple[str, ...] | None:
    if not fields.has("collect"):
        return None
    names = fields.take_texts("collect", NAME, len(COLLECTED), 63)
    if any(name not in COLLECTED for name in names) or list(names) != sorted(names):
        raise fields.wrong("collect", "names something that is not known, or is not sorted")
    if names == ("ima",):
        raise fields.wrong("collect", "asks for the IMA list without the boot log that it continues")
    return names


def _read_disks(fields: Fields) -> tuple[str, ...]:
    if not fields.has("disks"):
        return STATELESS
    names = fields.take_texts("disks", NAME, len(DISK_CLASSES), 63)
    if any(name not in DISK_CLASSES for name in names) or list(names) != sorted(set(names)):
        raise fields.wrong("disks", "names a class that is not known, or is not sorted")
    if names == STATELESS:
        raise fields.wrong("disks", "is there and what it would be without")
    return names


def _read_kinds(fields: Fields, member: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of what VMs may have: absent is none, and there is no other way to say that."""
    if not fields.has(member):
        return ()
    kinds = fields.take_texts(member, NAME, len(known), 63)
    if not kinds or any(kind not in known for kind in kinds) or list(kinds) != sorted(kinds):
        raise fields.wrong(member, "is empty, not sorted, or names something that is not known")
    return kinds
