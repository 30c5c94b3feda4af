# SPDX-License-Identifier: Apache-2.0
"""``vmgate recovery``: the key that opens the VMs' keys when the TPM does not any more.

The private half is opened in this process and never leaves it; the agent gets the VM keys that it opened, over the
socket that only root may use. This module decides nothing about starts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.errors import CopyUnknown
from documents.errors import Exit, VmgateError
from vmgate.commands.host import ask, root_option
from vmgate.commands.key_options import FILE, NEW_FILE, passphrase_option
from vmgate.errors import UsageError
from vmgate.output import output_option, say, show, table

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from documents.recovery import RecoveredKey


@click.group("recovery")
def command() -> None:
    """The recovery key: for a TPM that was cleared, or a host that died."""


@command.command("show")
@root_option
@output_option
def show_(root: Path, output: str) -> None:
    """Show which recovery key this host has."""
    result: dict[str, Any] = ask(root, "recovery/show")
    show(output, result, lambda: say(result["id"] or "none: see `vmgate recovery create`"))


@command.command("create")
@click.option("--out", type=NEW_FILE, required=True, help="The new file of the private half; keep it off the host.")
@click.option("--no-install", is_flag=True, help="Ask no agent: only make the two files.")
@click.option("--replace", is_flag=True, help="Replace this host's recovery key; the old file opens no copy any more.")
@passphrase_option(confirm=True)
@root_option
@output_option
def create(*, out: Path, no_install: bool, replace: bool, passphrase: Any, root: Path, output: str) -> None:
    """Make a recovery key, and install its public half on this host.

    The public half is written beside the private one, as OUT.public: for `vmgate recovery install` on other hosts, or
    on this one if the agent could not take it.
    """
    from content.durable import write_file
    from keys.files import create_key
    from keys.recovery import recovery_key
    from keys.roles import P256

    public = out.with_name(f"{out.name}.public")
    if public.exists() or (no_install and replace):
        cause = "--replace is for installing" if no_install and replace else f"{public} is there already"
        raise UsageError("no key was made", cause=cause, remedy="see `vmgate recovery create --help`")
    instead = "" if no_install else _replaced(root, replace=replace)
    key = recovery_key(create_key(out, P256, passphrase()), int(time.time()))
    write_file(public, key.encode(), 0o644)
    if no_install:
        result: dict[str, Any] = {"id": key.id, "copied": [], "failed": []}
        show(output, result, lambda: say(f"made {key.id}; now `vmgate recovery install {public}` on each host"))
        return
    _install(root, key.encode(), instead, output)


@command.command("install")
@click.argument("public", type=FILE)
@click.option("--replace", is_flag=True, help="Replace this host's recovery key; the old file opens no copy any more.")
@root_option
@output_option
def install(*, public: Path, replace: bool, root: Path, output: str) -> None:
    """Install the public half of a recovery key that was made elsewhere."""
    from content.durable import read_file
    from documents.recovery import RecoveryKey

    key = RecoveryKey.parse(read_file(public, RecoveryKey.LIMIT))
    _install(root, key.encode(), _replaced(root, replace=replace), output)


@command.command("test")
@click.argument("file", type=FILE)
@passphrase_option()
@root_option
@output_option
def test_(*, file: Path, passphrase: Any, root: Path, output: str) -> int:
    """Try whether FILE opens each VM's recovery copy; exit 5 if one does not, or is missing. Changes nothing."""
    private = _opened(root, file, passphrase)
    result: dict[str, Any] = ask(root, "recovery/copies", purpose="test")
    for vm in result["vms"]:
        vm["opens"], vm["result"] = _tried(private, vm)
        del vm["copy"]
    show(output, result, lambda: table(["VM", "RECOVERY"], [[vm["name"], vm["result"]] for vm in result["vms"]]))
    lacking = [vm for vm in result["vms"] if vm["guarded"] and vm["started"] and not vm["opens"]]
    return Exit.REFUSED if lacking else Exit.DONE


@command.command("use")
@click.argument("file", type=FILE)
@click.option("--vm", "names", multiple=True, help="Only this VM; may be repeated. Else all that have a copy.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@passphrase_option()
@root_option
@output_option
def use(*, file: Path, names: tuple[str, ...], yes: bool, passphrase: Any, root: Path, output: str) -> None:
    """Open the VMs' keys with FILE and wrap them with this host's key, made anew if its TPM does not know it.

    It opens keys and not the gate: what is refused for another reason stays refused.
    """
    from documents.recovery import RecoveredKeys

    private = _opened(root, file, passphrase)
    found: dict[str, Any] = ask(root, "recovery/copies", purpose="use")
    keys = [_recovered(private, vm) for vm in _chosen(found["vms"], names)]
    if not keys:
        raise UsageError("nothing was recovered", cause="no VM has a copy", remedy="`vmgate recovery test FILE`")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was recovered", cause="there is no terminal to ask on", remedy="use -y")
        click.confirm(f"Wrap the keys of {len(keys)} VMs with this host's key?", abort=True, err=True)
    given = RecoveredKeys(recovery=found["id"], keys=tuple(keys)).encode().decode()
    result: dict[str, Any] = ask(root, "recovery/use", keys=given)
    show(output, result, lambda: say("recovered: " + ", ".join(result["recovered"])))


def _replaced(root: Path, *, replace: bool) -> str:
    """The id of the key that is to be replaced; empty for none."""
    installed: dict[str, Any] = ask(root, "recovery/show")
    if installed["id"] and not replace:
        raise UsageError(
            "no recovery key was installed",
            cause=f"this host has {installed['id'][:16]}",
            remedy="`--replace` replaces it",
        )
    return str(installed["id"])


def _install(root: Path, key: bytes, instead: str, output: str) -> None:
    result: dict[str, Any] = ask(root, "recovery/install", key=key.decode(), instead=instead)

    def draw() -> None:
        say(f"installed {result['id']}")
        if result["copied"]:
            say("copies made: " + ", ".join(result["copied"]))
        for vm in result["failed"]:
            say(f"NO COPY of {vm['name']}: {vm['problem']}")

    show(output, result, draw)


def _opened(root: Path, file: Path, passphrase: Any) -> ec.EllipticCurvePrivateKey:
    """The private half, which must be that of this host's recovery key."""
    from keys.files import load_key
    from keys.recovery import require_same
    from keys.roles import P256

    installed: dict[str, Any] = ask(root, "recovery/show")
    if not installed["id"]:
        raise UsageError("nothing was opened", cause="this host has no recovery key", remedy="`vmgate recovery create`")
    private = load_key(file, P256, passphrase())
    require_same(private, installed["id"])
    return private


def _recovered(private: ec.EllipticCurvePrivateKey, vm: dict[str, Any]) -> RecoveredKey:
    import hashlib

    from documents.host_state import WrappedVmKey
    from documents.recovery import RecoveredKey
    from keys.recovery import unwrap

    text = vm["copy"].encode()
    key = unwrap(private, WrappedVmKey.parse(text), vm["uuid"])
    return RecoveredKey(uuid=vm["uuid"], copy=hashlib.sha256(text).hexdigest(), key=key)


def _tried(private: ec.EllipticCurvePrivateKey, vm: dict[str, Any]) -> tuple[bool, str]:
    """Whether a VM's copy opens, and a word for people."""
    if not vm["guarded"]:
        return False, "its definition does not name the guardian"
    if vm["problem"] or not vm["copy"]:
        return False, vm["problem"] or ("NO COPY" if vm["started"] else "no copy: it was never started")
    try:
        _recovered(private, vm)
    except VmgateError as error:
        return False, f"DOES NOT OPEN: {error.cause}"
    return True, "opens"


def _chosen(vms: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The VMs to recover; one whose copy is not to be taken stops all, unless others were named."""
    unknown = set(names) - {vm["name"] for vm in vms}
    if unknown:
        cause = f"there is no VM {min(unknown)[:63]!r}"
        raise UsageError("nothing was recovered", cause=cause, remedy="see `vmgate vm list`")
    wanted = [vm for vm in vms if (vm["name"] in names if names else vm["copy"] or vm["problem"])]
    for vm in wanted:
        if not vm["copy"]:
            cause = f"{vm['name']}: {vm['problem'] or 'it has no copy'}"
            raise CopyUnknown(
                "nothing was recovered", cause=cause, remedy="put its copy back, or choose others by --vm"
            )
    return wanted
