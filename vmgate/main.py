# SPDX-License-Identifier: Apache-2.0
"""The command line's entry point: finds the command, runs it, turns errors into one line and an exit code.

Groups are loaded when they are used, so that ``vmgate --help`` imports nothing heavy. No command lives here.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from documents.errors import Exit, VmgateError
from vmgate.errors import CommandError, UsageError

COMMANDS = {
    "agent": ("vmgate.commands.agent", "The host service: run."),
    "attest": ("vmgate.commands.attest", "Evidence and its verification."),
    "audit": ("vmgate.commands.audit", "The audit trail of this host."),
    "banner": ("vmgate.commands.banner", "The text that is shown before interactive management."),
    "bundle": ("vmgate.commands.bundle", "Releases as one file for hosts without a network."),
    "completion": ("vmgate.commands.completion", "Print a shell's completion script."),
    "config": ("vmgate.commands.config", "What is local to this host, and its approval."),
    "device": ("vmgate.commands.device", "Devices and media that VMs of this host may get."),
    "doctor": ("vmgate.commands.doctor", "Is this host fit for VMs, and what to do."),
    "explain": ("vmgate.commands.explain", "Say more about an error code."),
    "fleet": ("vmgate.commands.fleet", "The service for many hosts."),
    "host": ("vmgate.commands.host_fleet", "This host in its fleet."),
    "image": ("vmgate.commands.image", "Digests of files and the content store."),
    "init": ("vmgate.commands.init", "Set this host up with a trust anchor."),
    "measure": ("vmgate.commands.measure", "Measurement logs and PCRs."),
    "net": ("vmgate.commands.net", "The networks that this host offers to its VMs."),
    "recovery": ("vmgate.commands.recovery", "The key for a TPM that was cleared, or a host that died."),
    "repo": ("vmgate.commands.repo", "The publisher: keys, releases, repository."),
    "retire": ("vmgate.commands.retire", "Hand this host back: keys, VMs' state and all that init wrote."),
    "role": ("vmgate.commands.role", "Who may do what on this host."),
    "status": ("vmgate.commands.status", "Whether this host is ready and trusted."),
    "update": ("vmgate.commands.update", "Fetch, verify and activate releases."),
    "version": ("vmgate.commands.version", "The version of vmgate."),
    "vm": ("vmgate.commands.vm", "The VMs of this host."),
}


class LazyGroup(click.Group):
    """Loads a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """No VM starts unless the VMM and everything the VM is made of are what their publisher signed."""


def main() -> NoReturn:
    """Run the command; the process ends here."""
    # The TPM library writes to standard error on its own; what it has to say reaches the user through our errors.
    os.environ.setdefault("TSS2_LOG", "all+none")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        status = cli.main(arguments, prog_name="vmgate", standalone_mode=False)
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        return int(status) if isinstance(status, int) else Exit.DONE
    except VmgateError as error:
        return _complain(error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.ClickException as error:
        return _complain(_usage(error))
    except BrokenPipeError:
        # The reader went away, as in `vmgate audit list | head`.
        _give_up_output()
        return Exit.FAILED
    except Exception as error:  # the process entry point: no traceback ever reaches a user
        if os.environ.get("VMGATE_TRACEBACK"):
            raise
        return _complain(_unforeseen(error))


def _give_up_output() -> None:
    """Keep the interpreter from trying, and complaining, once more at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.ClickException) -> UsageError:
    """One line: where a command is missing, click would print the whole help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "vmgate"
    cause = error.format_message().splitlines()[0].rstrip(".")
    return UsageError("the command was not run", cause=cause, remedy=f"see `{path} --help`")


def _unforeseen(error: Exception) -> CommandError:
    if isinstance(error, OSError):
        # Each package makes errors of its own from what the system refuses it: this was our own output.
        _give_up_output()
        return CommandError("the result was not printed", cause=str(error), remedy="see where standard output goes")
    return CommandError(
        "the command failed",
        cause=f"{type(error).__name__}: {error}".splitlines()[0][:300],
        remedy="run it again with VMGATE_TRACEBACK=1 and report what it prints",
    )


def _complain(error: VmgateError) -> int:
    click.echo(error.line(), err=True)
    return int(getattr(error, "status", error.exit))


def _interrupted() -> int:
    click.echo("interrupted", err=True)
    return Exit.INTERRUPTED
