# SPDX-License-Identifier: Apache-2.0
"""``vmgate device``: devices and media that VMs of this host may get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vmgate.commands.host import ask, root_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table


@click.group("device")
def command() -> None:
    """Devices and media that VMs of this host may get."""


def _what(device: dict[str, Any]) -> str:
    if device["kind"] == "media":
        return f"sha256:{device['image']}"
    usb = ":".join(device[part] for part in ("vendor", "product", "serial") if part in device)
    return str(device.get("address", usb))


@command.command("list")
@root_option
@output_option
def list_(root: Path, output: str) -> None:
    """List devices and media, which VM has each, and whether it is there."""
    result: dict[str, Any] = ask(root, "device/list")
    rows = [
        [device["name"], device["kind"], device.get("owner", "-"), "yes" if device["there"] else "no", _what(device)]
        for device in result["devices"]
    ]
    show(output, result, lambda: table(["NAME", "KIND", "VM", "THERE", "WHAT"], rows))


@command.command("show")
@click.argument("name")
@root_option
@output_option
def show_(name: str, root: Path, output: str) -> None:
    """Show a device or medium."""
    result: dict[str, Any] = ask(root, "device/show", name=name)
    rows = [[key, str(value)] for key, value in result["device"].items()]
    rows += [["problem", result["problem"] or "none"]]
    show(output, result, lambda: table(["WHAT", "VALUE"], rows))


@command.command("add")
@click.argument("name")
@click.option("--media", type=click.Path(path_type=Path), help="An image file, which is copied; VMs only read it.")
@click.option("--usb", metavar="VENDOR:PRODUCT[:SERIAL]", help="A USB device of this host.")
@click.option("--pci", metavar="ADDRESS", help="A PCI function of this host, such as 0000:03:00.0.")
@root_option
@output_option
def add(*, name: str, media: Path | None, usb: str | None, pci: str | None, root: Path, output: str) -> None:
    """Name a device or medium, so that it can be given to a VM. Somebody else than root authenticates anew for it."""
    if len([what for what in (media, usb, pci) if what is not None]) != 1:
        raise UsageError("nothing was named", cause="it takes one of --media, --usb and --pci", remedy="give one")
    if media is not None:
        arguments = {"kind": "media", "medium": str(media.absolute())}
    elif usb is not None:
        parts = dict(zip(("vendor", "product", "serial"), usb.split(":", 2), strict=False))
        arguments = {"kind": "usb", **parts}
    else:
        arguments = {"kind": "pci", "address": pci or ""}
    result = ask(root, "device/add", name=name, **arguments)
    show(output, result, lambda: say(f"{name} can be given to a VM"))


@command.command("remove")
@click.argument("name")
@root_option
def remove(name: str, root: Path) -> None:
    """Forget a device or medium that no VM has. Somebody else than root authenticates anew for it."""
    ask(root, "device/remove", name=name)
    say(f"{name} is forgotten")


@command.command("grant")
@click.argument("name")
@click.argument("vm")
@root_option
@output_option
def grant(name: str, vm: str, root: Path, output: str) -> None:
    """Give a device or medium to a VM that is off, if its definition names it.

    No other VM has it until it is ejected. Somebody else than root authenticates anew for it.
    """
    result = ask(root, "device/grant", name=name, to=vm)
    show(output, result, lambda: say(f"{vm} has {name} from its next start on"))


@command.command("eject")
@click.argument("name")
@root_option
@output_option
def eject(name: str, root: Path, output: str) -> None:
    """Take a device or medium back from a VM that is off. Somebody else than root authenticates anew for it."""
    result = ask(root, "device/eject", name=name)
    show(output, result, lambda: say(f"no VM has {name}"))
