# SPDX-License-Identifier: Apache-2.0
"""Joins the parts that hand a host back, beside ``vmgate.wiring``: TPM, libvirt and trail. It decides nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agent import settings as settings_file
from agent.audit import AuditTrail
from agent.audit_key import verify_signed_head
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.retire import Retirement, require_set_up
from agent.retire_look import Belongings, look
from agent.settings import Settings
from content import durable
from content.errors import Busy
from content.locks import BOOT_ID, exclusive
from documents.errors import VmgateError
from documents.release import Release
from hypervisor.libvirt import Hypervisor
from measure.tpm import Tpm
from updater.client.generations import Generations
from updater.client.places import Places


def belongings(root: Path) -> tuple[Belongings, dict[str, Any]]:
    """What would be handed back; nothing is changed. Second, the same for people and programs."""
    paths = HostPaths(root)
    require_set_up(paths)
    settings = settings_file.load(paths.settings)
    found = _look(paths, settings, Hypervisor(settings.libvirt))
    return found, {
        "steps": list(found.told()),
        "left": [*(f"{path}: somebody changed it" for path in found.left), *_stays(paths)],
        "running": list(found.running),
    }


def hand_back(root: Path) -> dict[str, Any]:
    """Do what ``vmgate retire`` does; returns what was done and what is left to do.

    Raises:
        NotReady: the agent runs.
        VmRuns: a VM does.
        VmgateError: a step failed; call it again.
    """
    paths = HostPaths(root)
    require_set_up(paths)
    settings = settings_file.load(paths.settings)
    hypervisor = Hypervisor(settings.libvirt)
    try:
        with exclusive(paths.lock, wait=False), Tpm.open(settings.tpm) as tpm:
            found = _look(paths, settings, hypervisor)
            stays, platform, before = _stays(paths), _platform(paths), verify_signed_head(paths)
            boot = durable.read_file(BOOT_ID, 100).decode("ascii").strip()
            audit = AuditTrail(paths.audit, lambda: int(time.time()), boot)
            done = Retirement(paths, hypervisor, tpm, audit, platform).run(found)
    except Busy as error:
        raise NotReady(
            "nothing was retired",
            cause=f"the agent runs: {error.cause}",
            remedy="`systemctl stop vmgate.socket vmgate.service`, then try again",
        ) from error
    signed = done.head if not done.unsigned else before
    return {
        "steps": list(found.told()),
        "left": [*(f"{path}: somebody changed it" for path in found.left), *stays, *done.flaws],
        "head": {"sequence": done.head.sequence, "hash": done.head.hash},
        "signed": {"sequence": signed.sequence, "hash": signed.hash} if signed else None,
        "unsigned": done.unsigned,
    }


def _look(paths: HostPaths, settings: Settings, hypervisor: Hypervisor) -> Belongings:
    platform = _platform(paths)
    hook = platform.artifact("vmgate/hook") if platform else None
    return look(paths, Path(settings.hook), hypervisor, hook_digest=hook.fsverity if hook else "")


def _platform(paths: HostPaths) -> Release | None:
    """The active platform release; None where there is none that can be read, as after a cut."""
    generations = Generations(Places.below(paths.state).generations)
    try:
        number = generations.current()
        return generations.load(number).platform if number else None
    except VmgateError:
        return None


def _stays(paths: HostPaths) -> list[str]:
    """What is an administrator's, or somebody else's, to remove."""
    stays = [f"{paths.audit}: the audit trail"]
    if paths.settings.parent.is_dir():
        stays.append(f"{paths.settings.parent}: settings and roles, as you wrote them")
    if paths.membership.exists():
        stays.append("its fleet still knows this host: let whoever runs the fleet forget it")
    return stays
