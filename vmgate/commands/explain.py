# SPDX-License-Identifier: Apache-2.0
"""``vmgate explain CODE``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from documents.errors import VmgateError
from vmgate.errors import UnknownCode
from vmgate.output import output_option, show

MODULES = (
    "documents.verdict",
    "documents.audit",
    "content.errors",
    "keys.errors",
    "updater.errors",
    "updater.repository.errors",
    "measure.errors",
    "hypervisor.errors",
    "publisher.errors",
    "agent.errors",
    "agent.membership.errors",
    "agent.set_errors",
    "agent.vm_errors",
    "fleet.errors",
    "vmgate.errors",
)
HOOK = {
    "AG001": "libvirt called the hook in a way it does not know. Nothing was started. Check the libvirt version.",
    "AG002": "The agent's answer to the hook was not understood. Nothing was started. Restart the agent.",
    "AG003": "The agent did not answer the hook, so nothing was started. Start the agent with `vmgate agent run`.",
}


@click.command("explain")
@click.argument("code")
@output_option
def command(code: str, output: str) -> None:
    """Say more about an error code or a lint rule."""
    for name in MODULES:
        importlib.import_module(name)
    known = {error.code: error.explanation for error in _errors(VmgateError)} | HOOK | _lint_rules()
    if code.upper() not in known:
        raise UnknownCode(
            f"the code {code[:40]!r} was not found", cause="nothing prints it", remedy="copy the code from the error"
        )
    show(output, {"code": code.upper(), "text": known[code.upper()]}, lambda: click.echo(known[code.upper()]))


def _errors(base: type[VmgateError]) -> Iterator[type[VmgateError]]:
    yield base
    for child in base.__subclasses__():
        yield from _errors(child)


def _lint_rules() -> dict[str, str]:
    from hypervisor.lint import RULES
    from hypervisor.rules.together import TOGETHER

    return {rule.id: f"{rule.why} Fix: {rule.fix}" for rule in (*TOGETHER, *RULES)}
