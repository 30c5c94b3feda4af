# SPDX-License-Identifier: Apache-2.0
"""What a host tells of itself in evidence, why, and what that reveals: by the signed policy and nothing besides.

A quote, its key and vmgate's own log are always told, since without them nothing is proven. The rest is told where the
platform's security policy asks for it. This module collects nothing itself (``agent.host`` does).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from documents.canonical import Json
from documents.evidence import Evidence

PARTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "attest": (
            "the TPM's own statement: it proves the logs, and that they are of now",
            "how often the TPM was started, for how long it ran, and its firmware's version",
        ),
        "signature": ("by the attestation key, over the statement", "nothing besides"),
        "ak": ("the attestation key's public half", "which host this is, to whoever knows the key"),
        "cel": (
            "vmgate's own log, which explains PCR 12 and 13",
            "which release runs, digests of this host's settings, and which VMs were started and stopped in this boot",
        ),
        "boot_log": (
            "the firmware's log, which explains PCR 0 to 9 and 11: compared with the release's host image",
            "make and settings of the firmware, devices and disks it looked at, and the keys of Secure Boot",
        ),
        "ima": (
            "the kernel's list, which explains PCR 10: compared with the files of the host image",
            "path and digest of every program that ran since the host was started",
        ),
        "identity": (
            "certificates of the TPM, in the answer to a challenge alone",
            "which TPM this is, for its whole life",
        ),
        "baseline": (
            "what the administrator approved of this host's own, signed by the TPM",
            "digests of this host's settings, who approved them and when",
        ),
        "command_line": (
            "the kernel's command line, of which the security policy requires or denies words",
            "every option that the kernel was given, names of disks among them",
        ),
    }
)
"""For each member of the evidence: why it is told, and what it reveals to its reader."""

ALWAYS: Final = ("attest", "signature", "ak", "cel", "baseline")


def told(evidence: Evidence, asked: Collection[str]) -> list[Json]:
    """What evidence holds, for its owner: each part with its size, and those that are left out.

    Args:
        evidence: as it would be sent.
        asked: what the signed policy asks for besides ``ALWAYS``.
    """
    sizes = {name: len(getattr(evidence, name)) for name in PARTS}
    return [
        {
            "part": name,
            "bytes": sizes[name],
            "told": _when(name, asked),
            "why": why,
            "reveals": reveals,
        }
        for name, (why, reveals) in PARTS.items()
    ]


def _when(name: str, asked: Collection[str]) -> str:
    if name == "identity":
        return "in the answer to a challenge"
    return "always" if name in ALWAYS else "by policy" if name in asked else "no: the policy does not ask"
