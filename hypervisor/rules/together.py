# SPDX-License-Identifier: Apache-2.0
"""Rules about several VMs of one host: what no two of them may share. A rule is data, as in ``hypervisor.rules.rule``.

This module finds nothing itself (``hypervisor.host_lint`` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.rules.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRule:
    """What may be in one VM only.

    Attributes:
        rule: its id, why, fix and requirements; its level is always ``deny``. The values at ``where`` must differ
            between VMs: an attribute's, or an element's text or all its attributes.
        path: the values are paths of files; two that are the same after normalisation are the same.
    """

    rule: Rule
    path: bool = False


def _rule(number: str, where: tuple[str, ...], why: str, fix: str, sfr: str) -> Rule:
    return Rule(id=number, level="deny", where=where, why=why, fix=fix, sfr=sfr)


SHARED = (
    SharedRule(
        rule=_rule(
            "HV005",
            ("/domain/seclabel[@type='static']/label",),
            "Two VMs run under the same security label, so each reaches the other's files and memory.",
            "Leave labels to libvirt (type='dynamic').",
            "FDP_VMS_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV008",
            ("/domain/os/nvram[not(source)]", "/domain/os/nvram/source/@file"),
            "Two VMs have the same firmware variables, so one changes the other's Secure Boot keys.",
            "Give each VM a variables file of its own.",
            "FDP_VMS_EXT.1, FPT_GVI_EXT.1",
        ),
        path=True,
    ),
    SharedRule(
        rule=_rule(
            "HV021",
            ("/domain/devices/filesystem/source/@dir",),
            "Two VMs see the same folder of the host and can pass data through it.",
            "Give each its own, or none.",
            "FDP_VMS_EXT.1",
        ),
        path=True,
    ),
    SharedRule(
        rule=_rule(
            "HV041",
            ("/domain/devices/hostdev[@type='usb']/source/address",),
            "Two VMs take the same USB device, one after the other or by chance.",
            "Grant it to one VM.",
            "FPT_RDM_EXT.1, FDP_PPR_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV042",
            ("/domain/devices/hostdev[@type='pci']/source/address",),
            "Two VMs take the same PCI device; what one wrote into it the other may read.",
            "Grant it to one VM.",
            "FDP_HBI_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV053",
            ("/domain/devices/interface/mac/@address",),
            "Two VMs have the same address on the network, so each may get the other's frames.",
            "Give each its own MAC address.",
            "FDP_VNC_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV060",
            (
                "/domain/devices/*[self::serial or self::console or self::parallel or self::channel]/log/@file",
                "/domain/devices/*[self::serial or self::parallel or self::channel][not(@type='pty')]/source/@path",
            ),
            "Two VMs write into one console file, so one can forge what the other said.",
            "Give each its own.",
            "FDP_VMS_EXT.1",
        ),
        path=True,
    ),
    SharedRule(
        rule=_rule(
            "HV062",
            ("/domain/devices/vsock/cid[@auto='no']/@address",),
            "Two VMs answer to the same address of a channel to the host.",
            "Remove it.",
            "FDP_VMS_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV071",
            ("/domain/devices/tpm/backend/encryption/@secret",),
            "Two VMs' TPMs are encrypted with the same key, so one opens with what the other was given.",
            "Give each VM's TPM a secret of its own.",
            "FPT_GVI_EXT.1",
        )
    ),
    SharedRule(
        rule=_rule(
            "HV090",
            ("/domain/uuid", "/domain/genid[text()]"),
            "Two VMs have the same identity, so a check of one may be taken for a check of the other.",
            "Give each its own.",
            "FPT_GVI_EXT.1",
        )
    ),
)
"""What no two VMs may have in common, apart from names and disks, which are compared in their own way."""

SAME_NAME = _rule(
    "HV090",
    ("/domain/name",),
    "Two VMs have the same name but for case, accents and separators, so a check of one is taken for one of the other.",
    "Give each its own.",
    "FPT_GVI_EXT.1",
)
ALIKE_NAME = Rule(
    id="HV090",
    level="warn",
    where=("/domain/name",),
    why="Its name can be taken for another VM's, so a person may trust the wrong window.",
    fix="Choose a name that differs in more than letters that look alike.",
    sfr="FPT_GVI_EXT.1",
)
DISKS = _rule(
    "HV023",
    (),
    "A VM can write a disk that another one reads or writes: a channel between them, and corruption.",
    "Give each VM its own overlay over a base that none can write.",
    "FDP_VMS_EXT.1",
)
BUDGET = _rule(
    "HV083",
    (),
    "All VMs together may take more than the host has for them, so that one slows or kills another.",
    "Give the VMs less, or run fewer of them.",
    "FPT_VIV_EXT.1",
)

TOGETHER: tuple[Rule, ...] = (*(shared.rule for shared in SHARED), SAME_NAME, ALIKE_NAME, DISKS, BUDGET)
"""All rules about several VMs."""
