# SPDX-License-Identifier: Apache-2.0
"""Starts the processes that stand beside the agent. They import little: none of them knows TPM, releases and audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.answering import answer
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.porter import Porter
from agent.porter_line import MAX_QUESTION, replying
from content import device_mapper
from content.store import ContentStore
from vmgate.service_manager import given_socket


def answer_mapper() -> None:
    """Answer what the agent may not ask the kernel itself, on the socket that systemd gave."""
    _answer("vmgate-mapper", device_mapper.reply, device_mapper.MAX_QUESTION)


def answer_porter() -> None:
    """Do what the agent's box does not allow, on the socket that systemd gave."""
    paths = HostPaths(Path("/"))
    porter = Porter(ContentStore(paths.store), paths.vmm)
    _answer("vmgate-porter", replying(porter), MAX_QUESTION)


def _answer(unit: str, reply: Callable[[bytes], bytes], longest: int) -> None:
    given = given_socket()
    if given is None:
        raise NotReady("nothing was answered", cause="systemd gave no socket", remedy=f"start {unit}.socket")
    with given:
        answer(given, reply, longest)
