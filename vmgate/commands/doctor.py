# SPDX-License-Identifier: Apache-2.0
"""``vmgate doctor``: is this host fit to keep VMs apart, and what to do about it; works without the agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from documents.errors import Exit, VmgateError
from vmgate.commands.host import ask, root_option
from vmgate.output import note, output_option, say, show, table

if TYPE_CHECKING:
    from agent.doctor.advice import Advice

REPORT_RECORDS = 500
ASKED = ("status", "vm/list", "update/history", "measure/show")


@click.command("doctor")
@root_option
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a redacted archive to a file.")
@click.option("--all", "all_", is_flag=True, help="List what is fine as well.")
@output_option
def command(root: Path, report: Path | None, all_: bool, output: str) -> int:
    """Look at how this host is set up, and say what to do: exit 7 when something keeps VMs from being isolated."""
    from agent.doctor.advice import sort
    from agent.doctor.facts import collect
    from agent.doctor.host_checks import host_checks
    from agent.doctor.libvirt_checks import libvirt_checks

    facts = collect(root.absolute())
    advice = sort((*host_checks(facts), *libvirt_checks(facts)))
    if report is not None:
        _write(report.absolute(), root, advice)
    show(output, {"advice": [one.members() for one in advice]}, lambda: _draw(advice, all_=all_))
    return Exit.NOT_READY if any(one.level == "fail" for one in advice) else Exit.DONE


def _draw(advice: tuple[Advice, ...], *, all_: bool) -> None:
    fine = [one for one in advice if one.level == "pass"]
    shown = [one for one in advice if all_ or one.level != "pass"]
    if shown:
        table(["LEVEL", "CHECK", "FOUND", "WHY"], [[one.level, one.check, one.found, one.why] for one in shown])
    fixes = [one for one in shown if one.fix]
    if fixes:
        say("")
        say("What to do:")
    for one in fixes:
        say(f"  {one.check}: {one.fix}")
    say(f"{len(advice) - len(fine)} to look at, {len(fine)} fine")


def _write(report: Path, root: Path, advice: tuple[Advice, ...]) -> None:
    import grp
    import platform
    import pwd
    from importlib.metadata import version

    from agent.audit import records
    from agent.doctor.redact import Redactor
    from agent.doctor.report import make_report
    from agent.paths import HostPaths
    from content.durable import read_file, write_file

    people = [entry.pw_name for entry in pwd.getpwall() if entry.pw_uid >= 1000 and entry.pw_name != "nobody"]
    names = [(platform.node(), "HOST"), *((name, "USER") for name in people)]
    names += [(entry.gr_name, "USER") for entry in grp.getgrall() if entry.gr_name in people]
    paths = HostPaths(root.absolute())
    contents: dict[str, Any] = {
        "doctor.json": [one.members() for one in advice],
        "versions.json": {
            "vmgate": version("vmgate"), "kernel": platform.release(), "machine": platform.machine(),
            "python": platform.python_version(), "system": _system(),
        },
    }  # fmt: skip
    for verb in ASKED:
        contents[f"agent-{verb.replace('/', '-')}.json"] = _told(lambda verb=verb: ask(root, verb))
    contents["settings.toml"] = _told(lambda: read_file(paths.settings, 100_000).decode(errors="replace"))
    contents["audit.json"] = _told(lambda: [record.members() for record in records(paths.audit)][-REPORT_RECORDS:])
    write_file(report, make_report(contents, Redactor(names)), 0o600)
    note(f"wrote {report}: look through it before you give it away")


def _system() -> str:
    import platform

    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _told(get: Any) -> Any:
    """What can be had, or in one line why not: a report is wanted most where something is broken."""
    try:
        return get()
    except VmgateError as error:
        return error.line()
