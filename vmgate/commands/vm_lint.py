# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm lint``: domain XML against the hardening rules, from files and without a host."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from documents.errors import Exit
from vmgate.errors import LintDenied
from vmgate.output import note, show, table

if TYPE_CHECKING:
    from hypervisor.host_lint import HostFinding
    from hypervisor.lint import LintFinding


@click.command("lint")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "sarif"]), default="table", help="Form of the result."
)
@click.option("--fix", "fix_", is_flag=True, help="Print the XML with the safe repairs made, and judge that.")
@click.option("--max-memory", type=click.IntRange(1), help="MiB that all FILEs together may take.")
@click.option("--max-vcpus", type=click.IntRange(1), help="Virtual processors that all FILEs together may take.")
def lint(files: tuple[Path, ...], output: str, fix_: bool, max_memory: int | None, max_vcpus: int | None) -> None:
    """Check domain XML against the hardening rules; exit 6 when any finding is `deny`.

    Several FILEs are the VMs of one host: what they share, and what they take together, is checked as well.
    """
    from content.durable import read_file
    from hypervisor.host_lint import Budget, lint_host
    from hypervisor.lint import lint
    from hypervisor.untrusted_xml import MAX_XML

    if fix_:
        _fix(files)
        return
    domains = {str(file): read_file(file, MAX_XML) for file in files}
    budget = Budget(vcpus=max_vcpus or 2**31, memory_mib=max_memory or 2**40)
    single = [(name, found) for name, xml in domains.items() for found in lint(xml)]
    together = lint_host(domains, budget)
    if output == "sarif":
        _show_sarif([*single, *((found.domain, found.finding) for found in together)])
    else:
        _show(files, single, together, output)
    denied = [found.id for found in (*(f for _, f in single), *(f.finding for f in together)) if found.level == "deny"]
    _refuse(files, denied, quietly=output != "table")


def _show(
    files: Sequence[Path], single: Sequence[tuple[str, LintFinding]], together: Sequence[HostFinding], output: str
) -> None:
    findings = [_members(found) | {"file": name} for name, found in single]
    findings += [_members(found.finding) | {"file": found.domain, "others": list(found.others)} for found in together]
    if len(files) == 1:
        # The fixed form of one file's findings names no file.
        findings = [{key: value for key, value in finding.items() if key != "file"} for finding in findings]
    rows = [[f["id"], f["level"], _place(f), f["why"], f["fix"]] for f in findings]
    show(
        output,
        {"findings": findings},
        lambda: table(["ID", "LEVEL", "WHERE", "WHY", "FIX"], rows) if rows else click.echo("no findings"),
    )


def _members(found: LintFinding) -> dict[str, Any]:
    members = {"id": found.id, "level": found.level, "xpath": found.xpath}
    return members | {"why": found.why, "fix": found.fix, "sfr": found.sfr}


def _place(finding: dict[str, Any]) -> str:
    place = f"{finding['file']}: {finding['xpath']}" if "file" in finding else str(finding["xpath"])
    return f"{place} (as in {', '.join(finding['others'][:3])})" if "others" in finding else place


def _show_sarif(results: Sequence[tuple[str, LintFinding]]) -> None:
    from urllib.parse import quote

    from hypervisor.lint import RULES
    from hypervisor.rules.together import TOGETHER
    from hypervisor.sarif import sarif

    log = sarif([(quote(name), found) for name, found in results], (*RULES, *TOGETHER), version("vmgate"))
    show("json", log, lambda: None, versioned=False)


def _fix(files: Sequence[Path]) -> None:
    from content.durable import read_file
    from hypervisor.fixes import fix
    from hypervisor.lint import lint
    from hypervisor.untrusted_xml import MAX_XML

    if len(files) != 1:
        raise click.UsageError("--fix takes one FILE")
    fixed, mended = fix(read_file(files[0], MAX_XML))
    click.echo(fixed.decode(), nl=False)
    note(f"repaired: {', '.join(mended) or 'nothing'}")
    left = lint(fixed)
    for found in left:
        note(f"left: {found.id} {found.level} {found.xpath}: {found.fix}")
    _refuse(files, [found.id for found in left if found.level == "deny"], quietly=False)


def _refuse(files: Sequence[Path], denied: Sequence[str], *, quietly: bool) -> None:
    if denied and quietly:
        raise click.exceptions.Exit(Exit.POLICY)
    if denied:
        told = str(files[0]) if len(files) == 1 else f"{len(files)} domains"
        raise LintDenied(
            f"{told} was refused" if len(files) == 1 else f"{told} were refused",
            cause=f"{len(denied)} findings deny it, first {denied[0]}",
            remedy="apply the fixes",
        )
