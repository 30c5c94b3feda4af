# SPDX-License-Identifier: Apache-2.0
"""What the agent and the process outside of its box say to each other."""

from __future__ import annotations

from pathlib import Path

from agent.porter import Porter
from agent.porter_line import MAX_ANSWER, MAX_MACHINES, MAX_QUESTION, read_answer, read_machines, reply
from content.store import ContentStore
from documents.canonical import decode

DIGEST = "5a" * 32
MACHINE = b'{"kvm":true,"process":7,"program":"qemu-kvm","started":3,"uid":0}'


def questions() -> list[bytes]:
    """Questions about an image that is nowhere."""
    return [f"{word} {DIGEST}\n".encode() for word in ("flaw", "mounted", "mount", "unmount")]


def answers() -> list[bytes]:
    """Answers about machines."""
    return [b'{"machines":[' + MACHINE + b"]}\n", b'{"error":"none"}\n']


def check_question(folder: Path, untrusted: bytes) -> None:
    """Nothing is in the store and nothing is mounted, whatever is asked."""
    answer = reply(Porter(ContentStore(folder), folder), untrusted[:MAX_QUESTION])
    assert set(decode(answer[:-1], MAX_ANSWER)) <= {"error", "text", "done"}
    assert b'"done":true' not in answer


def check_answer(folder: Path, untrusted: bytes) -> None:
    """What is let through is bounded."""
    assert len(read_answer(untrusted, read_machines)) <= MAX_MACHINES
