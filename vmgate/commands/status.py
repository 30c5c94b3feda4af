# SPDX-License-Identifier: Apache-2.0
"""``vmgate status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from documents.errors import Exit
from vmgate.commands.host import ask, release, root_option
from vmgate.output import output_option, show, table


@click.command("status")
@root_option
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what this host has to a file, for `vmgate bundle create --for`; say nothing else.",
)
@output_option
def command(root: Path, save: Path | None, output: str) -> int:
    """Say whether this host is ready and trusted: exit 0 trusted, 5 something was refused, 7 not ready.

    It is not ready either when its updates, or its log server, were out of reach for too long: somebody may keep them
    from it.
    """
    if save is not None:
        from content.durable import write_file

        document: dict[str, Any] = ask(root, "status/document")
        write_file(save.absolute(), document["document"].encode(), 0o644)
        return Exit.DONE
    result: dict[str, Any] = ask(root, "status")
    names = {"tpm": "TPM", "libvirt": "libvirt", "platform": "platform", "update": "update", "audit": "audit trail"}
    names |= {"audit_server": "audit server", "local": "host's own"}
    names |= {"reached": "updates reached", "paused": "updates paused"}
    rows = [[names[key], result[key]] for key in names]
    rows += [[f"channel {item['channel']}", f"release {item['number']}"] for item in result["releases"]]
    rows += [["assurance level", result["level"]], ["refused since boot", ", ".join(result["refused"]) or "nothing"]]
    rows += [[f"VM {vm['name']}", _versions(vm)] for vm in result["vms"]]
    rows += [["ALARM", f"{fault['kind']} {fault['name']}: {fault['why']}"] for fault in result["faults"]]
    if result["silent"]:
        rows += [["ALARM", "updates were out of reach for too long: see `vmgate explain AG020`"]]
    if result["audit_refusals"]:
        rows += [["ALARM", "much was refused in a short time: see `vmgate audit list --outcome refused`"]]
    if result["audit_alarm"]:
        rows += [["ALARM", "the audit trail is not off-loaded, or not written: see `vmgate explain AG110`"]]
    show(output, result, lambda: table(["WHAT", "STATE"], rows))
    if not result["ready"]:
        return Exit.NOT_READY
    if not result["trusted"]:
        return Exit.REFUSED
    return Exit.NOT_READY if result["silent"] or result["audit_alarm"] else Exit.DONE


def _versions(vm: dict[str, Any]) -> str:
    """What a VM runs, and what it would run after a restart where that is something else."""
    installed = f"installed {release(vm['installed'])}"
    if vm["running"] is None:
        return f"{vm['state']}; {installed}"
    runs = f"runs {release(vm['running'])}"
    return f"{runs} until it is restarted; {installed}" if vm["outdated"] else f"{runs}; {installed}"
