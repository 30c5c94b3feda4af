# SPDX-License-Identifier: Apache-2.0
"""``vmgate vm create``, ``edit``, ``forget`` and ``schema``: VMs that are made on this host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, greet, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("create")
@click.argument("name")
@click.option("--image", "images", multiple=True, help="Name or sha256:DIGEST of an image of this host; in boot order.")
@click.option("--iso", type=str, help="The same for an ISO; it is booted first.")
@click.option("--from-domain", "domain", type=FILE, help="Take processors, memory and title from a libvirt domain.")
@click.option("-f", "--file", "definition", type=FILE, help="The definition in TOML; the rest is the default's.")
@click.option("--vcpus", type=int, help="Virtual processors.")
@click.option("--memory", type=int, help="Memory in MiB.")
@root_option
@output_option
def create(
    name: str, *, images: tuple[str, ...], iso: str | None, domain: Path | None, definition: Path | None,
    vcpus: int | None, memory: int | None, root: Path, output: str,
) -> None:  # fmt: skip
    """Make a VM on this host, signed by its local authority.

    The signed security policy must have AllowLocal. Administrators who are not root authenticate anew. What is not said
    comes from /etc/vmgate/vm-defaults.toml.
    """
    values: dict[str, Any] = _domain_values(domain) if domain else {}
    disks = ((iso,) if iso else ()) + images
    result = _send(root, "vm/create", name, definition, values, vcpus, memory, disks)
    show(output, result, lambda: say(f"{name} made, signed as number {result['number']}"))


@click.command("edit")
@click.argument("name")
@click.option("--image", "images", multiple=True, help="Name or sha256:DIGEST of an image of this host; in boot order.")
@click.option("-f", "--file", "definition", type=FILE, help="The definition in TOML; the rest stays as it is.")
@click.option("--vcpus", type=int, help="Virtual processors.")
@click.option("--memory", type=int, help="Memory in MiB.")
@root_option
@output_option
def edit(
    name: str, *, images: tuple[str, ...], definition: Path | None, vcpus: int | None, memory: int | None,
    root: Path, output: str,
) -> None:  # fmt: skip
    """Change a VM of this host; its next start is by the new definition. Name and uuid stay."""
    result = _send(root, "vm/edit", name, definition, {}, vcpus, memory, images)
    show(output, result, lambda: say(f"{name} changed, signed as number {result['number']}"))


@click.command("forget")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@root_option
def forget(name: str, *, yes: bool, root: Path) -> None:
    """Forget a VM of this host; what it keeps is set aside. A VM of a release goes by a release."""
    greet(root)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was forgotten", cause="there is no terminal to ask on", remedy="use -y")
        click.confirm(f"Forget the VM {name}?", abort=True)
    result: dict[str, Any] = ask(root, "vm/forget", name=name)
    say(f"{name} forgotten, signed as number {result['number']}")


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of a VM definition in TOML."""
    import json

    from documents.definition_schema import definition_schema

    click.echo(json.dumps(definition_schema(), indent=2, sort_keys=True))


def _send(
    root: Path, verb: str, name: str, definition: Path | None, values: dict[str, Any], vcpus: int | None,
    memory: int | None, images: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    from content import durable
    from documents.canonical import encode
    from documents.tables import LIMIT

    values |= {} if vcpus is None else {"vcpus": vcpus}
    values |= {} if memory is None else {"memory_mib": memory}
    arguments = {"name": name}
    if definition is not None:
        arguments["text"] = _text(durable.read_file(definition, LIMIT), definition)
    if values:
        arguments["values"] = encode(values).decode()
    if images:
        arguments["images"] = " ".join(images)
    answer: dict[str, Any] = ask(root, verb, **arguments)
    return answer


def _text(untrusted: bytes, path: Path) -> str:
    try:
        return untrusted.decode()
    except UnicodeDecodeError as error:
        raise UsageError("nothing was signed", cause=f"{path} is not UTF-8", remedy="correct the file") from error


def _domain_values(path: Path) -> dict[str, Any]:
    """What of a libvirt domain goes into a definition, after a note of what does not."""
    from content import durable
    from hypervisor.from_domain import take_over
    from hypervisor.untrusted_xml import MAX_XML
    from vmgate.output import note

    taken = take_over(durable.read_file(path, MAX_XML))
    if taken.left:
        note(f"not taken over: {', '.join(taken.left)}")
    return dict(taken.values)
