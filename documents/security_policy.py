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
from documents.document import Document
from documents.fields import Fields

ALLOWANCES = ("AllowEmulation", "AllowSelfMeasured", "AllowSoftwareTpm")
"""AllowEmulation: QEMU's TCG, which promises no isolation. AllowSelfMeasured: assurance level L1.
AllowSoftwareTpm: assurance level L0."""

LOCAL = ("any", "approved", "publisher")
"""Who has to vouch for what is local to a host and that the publisher does not name. ``any``: nobody, and it is told;
``approved``: the administrator's baseline; ``publisher``: nobody may, so that all of it must be named."""

KERNEL_ARGUMENT = re.compile(r"[A-Za-z0-9._,=:/@%+*?-]{1,120}")
"""A word of a kernel command line; ``*`` stands for any text and ``?`` for any character."""

MAX_ARGUMENTS = 64


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
    """

    TYPE: ClassVar[str] = "vmgate.security-policy"
    LIMIT: ClassVar[int] = 10_000

    allow: tuple[str, ...]
    max_vcpus: int
    max_memory_mib: int
    local: str = "any"
    kernel_required: tuple[str, ...] = ()
    kernel_denied: tuple[str, ...] = ()

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
        )
        if list(policy.allow) != sorted(set(policy.allow)):
            raise fields.wrong("allow", "is not sorted")
        return policy

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        members: dict[str, Json] = {
            "allow": list(self.allow),
            "max_vcpus": self.max_vcpus,
            "max_memory_mib": self.max_memory_mib,
        }
        # Absent in their default, so that policies from before these members keep their bytes.
        if self.local != "any":
            members["local"] = self.local
        if self.kernel_required:
            members["kernel_required"] = list(self.kernel_required)
        if self.kernel_denied:
            members["kernel_denied"] = list(self.kernel_denied)
        return members


def _arguments(fields: Fields, name: str) -> tuple[str, ...]:
    if not fields.has(name):
        return ()
    found = fields.take_texts(name, KERNEL_ARGUMENT, MAX_ARGUMENTS, 120)
    if not found or list(found) != sorted(found):
        raise fields.wrong(name, "is empty or not sorted")
    return found
