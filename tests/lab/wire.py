# SPDX-License-Identifier: Apache-2.0
"""What crosses the bus between vmgate and a software TPM, byte for byte: who solders wires to a chip sees this."""

from __future__ import annotations

import socket
from pathlib import Path

import tpm2_pytss as tss

from measure.tpm import Tpm

HEADER = 10
"""Bytes of tag, size and code before every command and answer (TPM 2.0 Library Part 1, 18)."""


class Wire(tss.PyTCTI):  # type: ignore[misc]
    """A connection to the data socket of a swtpm that notes what it carries.

    Attributes:
        seen: each command and each answer, in order.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.seen: list[bytes] = []
        super().__init__()

    def do_transmit(self, command: bytes) -> None:
        """Send a command."""
        self.seen.append(bytes(command))
        self._socket.sendall(command)

    def do_receive(self, timeout: int) -> bytes:
        """Receive the answer."""
        answer = self._read(HEADER)
        answer += self._read(int.from_bytes(answer[2:6], "big") - HEADER)
        self.seen.append(answer)
        return answer

    def do_finalize(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the TPM hung up"
            data += part
        return data

    def codes(self) -> list[int]:
        """The command codes so far."""
        return [int.from_bytes(data[6:10], "big") for data in self.seen[::2]]


def wiretapped(directory: Path) -> tuple[Tpm, Wire]:
    """Connect to the software TPM of a folder (``lab.tpm``) over a wire that is listened to."""
    wire = Wire(directory / "tpm")
    return Tpm(tss.ESAPI(wire)), wire
