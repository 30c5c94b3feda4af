#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""libvirt's QEMU hook: asks the vmgate agent before a VM starts, and fails when the answer is anything but yes.

libvirt runs ``qemu NAME OPERATION SUB-OPERATION EXTRA`` with the domain's XML on standard input (libvirt docs,
"Hooks for specific system management"). ``vmgate init`` copies this one file into place; its digest is part of the
signed platform release, so it holds no settings. It imports only the standard library, decides nothing itself and
never calls libvirt, which would deadlock.
"""

import json
import socket
import sys
import time
from typing import Any

AGENT = "/run/vmgate/agent.sock"
SECONDS = 600
"""A hang guard: hashing a large image takes minutes, an agent that takes longer has failed."""
MAX_XML = 400_000
MAX_ANSWER = 1_000_000

ASK = {("prepare", "begin"), ("started", "begin"), ("migrate", "begin"), ("restore", "begin"), ("attach", "begin")}
"""Operations that the agent can refuse."""
TELL = {("stopped", "end"), ("release", "end"), ("reconnect", "begin")}
"""Operations that only tell. A failure at ``reconnect`` would kill a running VM, so none is reported."""


def call(name: str, operation: str, xml: str) -> dict[str, Any]:
    """Send one request to the agent and return its answer."""
    request = {
        "type": "vmgate.request",
        "version": 1,
        "verb": f"gate/{operation}",
        "actor": "libvirt hook",
        "arguments": [{"name": "name", "text": name}, {"name": "xml", "text": xml}],
    }
    line = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    deadline = time.monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(AGENT)
        connection.sendall(line)
        answer = b""
        while not answer.endswith(b"\n"):
            # Of the whole answer: one that trickles is late as well.
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = connection.recv(65536)
            if not part or len(answer) > MAX_ANSWER:
                raise OSError("the agent gave no whole answer")
            answer += part
    parsed: dict[str, Any] = json.loads(answer)
    return parsed


def main(arguments: list[str]) -> int:
    """Return the hook's exit code; 0 lets libvirt go on."""
    if len(arguments) < 3:
        sys.stderr.write("error[AG001]: the libvirt hook was called in an unknown way; refused; check libvirt\n")
        return 1
    name, operation, sub_operation = arguments[:3]
    step = (operation, sub_operation)
    if step not in ASK | TELL:
        return 0
    try:
        untrusted_xml = sys.stdin.buffer.read(MAX_XML + 1)
        if len(untrusted_xml) > MAX_XML:
            raise OSError(f"the domain XML is larger than {MAX_XML} bytes")
        answer = call(name, operation, untrusted_xml.decode())
        if answer["exit"] == 0 and answer["error"] == "" and answer["result"].get("allowed") == name:
            return 0
        line = answer["error"] or "error[AG002]: the agent's answer was not understood; refused; restart vmgate"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        line = f"error[AG003]: the vmgate agent did not answer; {error}; start it and look at `vmgate status`"
    if step in TELL:
        return 0
    sys.stderr.write(line.replace("\n", " ") + "\n")
    return 5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
