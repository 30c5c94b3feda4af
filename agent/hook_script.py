#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""libvirt's QEMU hook: asks the vmgate agent before a VM starts, and fails when the answer is anything but yes.

libvirt runs ``qemu NAME OPERATION SUB-OPERATION EXTRA`` with the domain's XML on standard input (libvirt docs,
"Hooks for specific system management"). ``vmgate init`` copies this one file into place; its digest is part of the
signed platform release, so it holds no settings. It imports only the standard library, decides nothing itself and
never calls libvirt, which would deadlock.
"""

import sys

AGENT = "/run/vmgate/agent.sock"
SECONDS = 600
"""A hang guard: hashing a large image takes minutes, an agent that takes longer has failed."""
MAX_XML = 400_000
MAX_ANSWER = 1_000_000

ASK = {("prepare", "begin"), ("started", "begin"), ("migrate", "begin"), ("restore", "begin"), ("attach", "begin")}
"""Operations that the agent can refuse."""
TELL = {("stopped", "end"), ("release", "end"), ("reconnect", "begin")}
"""Operations that only tell. A failure at ``reconnect`` would kill a running VM, so none is reported."""

ESCAPES = {number: f"\\u{number:04x}" for number in range(32)}
ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
"""Of canonical JSON. libvirt runs this three times for a start, and importing json takes longer than the question."""


def quote(text: str) -> str:
    """A text in canonical JSON."""
    return '"' + text.translate(ESCAPES) + '"'


def call(name: str, operation: str, xml: str) -> bytes:
    """Send one request to the agent and return its answer, a line."""
    import socket  # noqa: PLC0415 (as ``json``: only who needs it waits for it)
    import time  # noqa: PLC0415

    arguments = f'[{{"name":"name","text":{quote(name)}}},{{"name":"xml","text":{quote(xml)}}}]'
    kind = f'"type":"vmgate.request","verb":"gate/{operation}","version":1'
    line = f'{{"actor":"libvirt hook","arguments":{arguments},{kind}}}'
    deadline = time.monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(AGENT)
        connection.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            # Of the whole answer: one that trickles is late as well.
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = connection.recv(65536)
            if not part or len(answer) > MAX_ANSWER:
                raise OSError("the agent gave no whole answer")
            answer += part
    return answer


def refusal(answer: bytes) -> str:
    """The line in an answer that is no yes."""
    import json  # noqa: PLC0415

    line = json.loads(answer)["error"]
    if isinstance(line, str) and line.startswith("error["):
        return line
    return "error[AG002]: the agent's answer was not understood; refused; restart vmgate"


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
        # One answer is a yes, byte for byte.
        yes = f'{{"error":"","exit":0,"result":{{"allowed":{quote(name)}}},"type":"vmgate.response","version":1}}\n'
        if answer == yes.encode():
            return 0
        line = refusal(answer)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        line = f"error[AG003]: the vmgate agent did not answer; {error}; start it and look at `vmgate status`"
    if step in TELL:
        return 0
    sys.stderr.write(line.replace("\n", " ") + "\n")
    return 5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
