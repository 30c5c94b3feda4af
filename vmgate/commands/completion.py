# SPDX-License-Identifier: Apache-2.0
"""``vmgate completion``: what makes a shell complete the command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_VMGATE_COMPLETE"
"""Click's own name for it: the script sets it to ask this command for completions."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL; for bash: source <(vmgate completion bash)."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"click does not know the shell {shell}")
    click.echo(found(context.find_root().command, {}, "vmgate", VARIABLE).source())
