# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm``: the VMs of this host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from documents.verdict import VERDICT_SECONDS
from vmgate.commands.host import ask, release, root_option
from vmgate.commands.vm_introspect import introspect
from vmgate.commands.vm_lint import lint
from vmgate.commands.vm_local import create, edit, forget, schema
from vmgate.commands.vm_sets import export, import_
from vmgate.commands.vm_state import accept, checkpoint, checkpoints, delete, restore
from vmgate.output import output_option, say, show, table


@click.group("vm")
def command() -> None:
    """The VMs of this host."""


@command.command("list")
@root_option
@output_option
def list_(root: Path, output: str) -> None:
    """List the VMs of the active releases and of this host."""
    result: dict[str, Any] = ask(root, "vm/list")
    rows = [
        [vm["name"], vm["state"], vm["last_verdict"], vm["authority"], release(vm["installed"]), _runs(vm), vm["title"]]
        for vm in result["vms"]
    ]

    def draw() -> None:
        table(["NAME", "STATE", "LAST VERDICT", "AUTHORITY", "INSTALLED", "RUNS", "TITLE"], rows)
        for one in result["refused"]:
            say(f"{one['name'] or 'the VMs of this host'} may not start: {one['why']}")

    show(output, result, draw)


def _runs(vm: dict[str, Any]) -> str:
    """What a VM runs; its restart is due where that is not what is installed."""
    if vm["running"] is None:
        return "-" if vm["state"] in ("off", "undefined", "crashed") else "unknown"
    return release(vm["running"]) + (f"; restart: {vm['restart']}" if vm["outdated"] else "")


@command.command("show")
@click.argument("name")
@root_option
@output_option
def show_(name: str, root: Path, output: str) -> None:
    """Show what a VM is made of."""
    result: dict[str, Any] = ask(root, "vm/show", name=name)
    definition = result["definition"]
    rows = [[key, value] for key, value in definition.items() if not isinstance(value, list)]
    rows += [["disk", f"{disk['name']} {disk['class']} {_made_of(disk)}"] for disk in definition["disks"]]
    rows += [["authority", result["authority"]]]
    rows += [["installed", release(result["installed"])], ["runs", _runs(result)], ["state", result["state"]]]
    running = result["running"] or {"images": []}
    rows += [["runs image", f"{image['disk']} sha256:{image['fsverity']}"] for image in running["images"]]
    show(output, result, lambda: table(["WHAT", "VALUE"], rows))


def _made_of(disk: dict[str, Any]) -> str:
    return f"sha256:{disk['image']}" if "image" in disk else f"{disk['size_mib']} MiB"


@command.command("start")
@click.argument("name")
@root_option
@output_option
def start(name: str, root: Path, output: str) -> None:
    """Start a VM, if the gate allows it."""
    result: dict[str, Any] = ask(root, "vm/start", name=name)
    text = f"{name} started; verdict {result['status']}, assurance level {result['level']}"
    show(output, result, lambda: say(text))


@command.command("stop")
@click.argument("name")
@click.option("--timeout", type=click.IntRange(1, 3600), default=60, help="Seconds to wait for the guest.")
@root_option
def stop(name: str, timeout: int, root: Path) -> None:
    """Ask a VM to shut down and wait until it is off."""
    ask(root, "vm/stop", name=name, timeout=str(timeout))
    say(f"{name} stopped")


@command.command("kill")
@click.argument("name")
@root_option
def kill(name: str, root: Path) -> None:
    """Switch a VM off at once."""
    ask(root, "vm/kill", name=name)
    say(f"{name} switched off")


@command.command("console")
@click.argument("name")
@root_option
def console(name: str, root: Path) -> None:
    """Print what the VM wrote to its serial console since it started; the guest's control characters are shown."""
    result: dict[str, Any] = ask(root, "vm/console", name=name)
    click.echo(result["text"])


@command.command("why")
@click.argument("name")
@root_option
@output_option
def why(name: str, root: Path, output: str) -> None:
    """Tell the last verdict for a VM: each check with what was expected and found, and the way out."""
    result: dict[str, Any] = ask(root, "vm/why", name=name)
    show(output, result, lambda: draw_verdict(result["verdict"], result["remedy"]))


def draw_verdict(verdict: dict[str, Any], remedy: str) -> None:
    """Print a verdict for people: failures first."""
    expires = verdict.get("expires", verdict["time"] + VERDICT_SECONDS)
    past = "" if time.time() < expires else "; past: it may no longer be relied on"
    say(f"{verdict['subject']}: {verdict['status']}, assurance level {verdict['level']}{past}")
    order = {"fail": 0, "warn": 1, "pass": 2}
    rows = [
        [finding["outcome"], finding["check"], finding["subject"], finding["expected"], found_text(finding)]
        for finding in sorted(verdict["findings"], key=lambda finding: order[finding["outcome"]])
    ]
    table(["OUTCOME", "CHECK", "OF", "EXPECTED", "FOUND"], rows)
    if remedy:
        say(f"way out: {remedy}")


def found_text(finding: dict[str, Any]) -> str:
    """What was found, what keeps it so until it is used, and how it is known without having been read just now."""
    how = {"kernel": "told by the kernel", "memory": "read earlier in this boot"}
    kept = f"kept by {finding['kept']}" if finding.get("kept") else ""
    more = ", ".join(part for part in (kept, how.get(finding.get("taken", ""), "")) if part)
    return f"{finding['found']} ({more})" if more else str(finding["found"])


command.add_command(lint)
command.add_command(introspect)
for more in (accept, checkpoint, checkpoints, create, delete, edit, export, forget, import_, restore, schema):
    command.add_command(more)
