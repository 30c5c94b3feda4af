# SPDX-License-Identifier: Apache-2.0
"""``vmgate net``: the networks that this host offers to its VMs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from documents.host_networks import NETWORK_KINDS
from vmgate.commands.host import ask, root_option
from vmgate.output import output_option, say, show, table


@click.group("net")
def command() -> None:
    """The networks that this host offers to its VMs."""


@command.command("list")
@root_option
@output_option
def list_(root: Path, output: str) -> None:
    """List the networks; VMS is how many are plugged in now."""
    result: dict[str, Any] = ask(root, "net/list")
    rows = [
        [net["name"], net["kind"], net.get("subnet", "-"), "yes" if net.get("dhcp") else "no", str(net["vms"])]
        for net in result["networks"]
    ]
    show(output, result, lambda: table(["NAME", "KIND", "SUBNET", "DHCP", "VMS"], rows))


@command.command("show")
@click.argument("name")
@root_option
@output_option
def show_(name: str, root: Path, output: str) -> None:
    """Show a network, and whether libvirt still has it as it was made."""
    result: dict[str, Any] = ask(root, "net/show", name=name)
    rows = [[key, str(value)] for key, value in result["network"].items()]
    rows += [[key, str(result[key])] for key in ("libvirt", "bridge")]
    rows += [["plugged in", ", ".join(result["ports"]) or "nothing"]]
    rows += [
        [f["outcome"], f"{f['subject']}: expected {f['expected']}; found {f['found']}"] for f in result["findings"]
    ]
    show(output, result, lambda: table(["WHAT", "VALUE"], rows))


@command.command("create")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(list(NETWORK_KINDS)),
    required=True,
    help="nat: out through the host, and no VM reaches another. peers: VMs reach each other, and nothing else.",
)
@click.option("--subnet", metavar="NET/LENGTH", default="", help="Private IPv4 network, for nat.")
@click.option("--no-dhcp", is_flag=True, help="Give out no addresses: VMs use those of their definitions (nat).")
@root_option
@output_option
def create(*, name: str, kind: str, subnet: str, no_dhcp: bool, root: Path, output: str) -> None:
    """Make a network. Somebody else than root authenticates anew for it.

    A VM is on it if its signed definition names it and the signed policy allows its kind.
    """
    arguments = {"subnet": subnet} if subnet else {}
    if kind == "nat" or no_dhcp:
        arguments["dhcp"] = "no" if no_dhcp else "yes"
    result = ask(root, "net/create", name=name, kind=kind, **arguments)
    show(output, result, lambda: say(f"the network {name} is there"))


@command.command("delete")
@click.argument("name")
@root_option
def delete(name: str, root: Path) -> None:
    """Delete a network that no VM is on. Somebody else than root authenticates anew for it."""
    ask(root, "net/delete", name=name)
    say(f"the network {name} is gone")
