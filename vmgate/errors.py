# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the command itself."""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class CommandError(VmgateError):
    """The root of the command's own errors."""

    code = "VG001"
    explanation = "The command met something that it was not written for. Nothing was trusted because of it."


class UsageError(CommandError):
    """The arguments do not make sense."""

    code = "VG002"
    exit = Exit.USAGE
    explanation = "The arguments of the command are not what it takes; `vmgate GROUP VERB --help` lists them."


class UnknownCode(CommandError):
    """``vmgate explain`` was asked for a code that nothing prints."""

    code = "VG003"
    exit = Exit.NOT_FOUND
    explanation = "No error or lint rule of this vmgate has that code."


class LintDenied(CommandError):
    """``vmgate vm lint`` found something that the gate would refuse."""

    code = "VG004"
    exit = Exit.POLICY
    explanation = "The domain XML has an element or a value that gives the VM more than its definition may give it."


class SocketWrong(CommandError):
    """systemd gave the agent something else than its socket."""

    code = "VG020"
    explanation = (
        "A unit of systemd handed over other sockets than the one that the agent, or its helper, answers on. Nothing "
        "was answered: libvirt's hook refuses meanwhile. vmgate ships the units that fit: vmgate.socket and others."
    )
