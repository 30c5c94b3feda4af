# SPDX-License-Identifier: Apache-2.0
"""Keylime's verifier beside ours: a process in its own environment, and the same evidence in the forms that it takes.

For the benchmarks; Keylime itself is nowhere a dependency.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.attested import Attested
from lab.boot_logs import extended, ima_file
from lab.paper_tpm import EccAk, RsaAk, attest

QUOTED = [*range(8), 10]
"""PCRs that both sides have in their quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Seconds for one call."""

    wall: float
    cpu: float


class Keylime:
    """Keylime's side, in a process of its own environment."""

    def __init__(self, venv: Path, inputs: dict[str, Any]) -> None:
        worker = Path(__file__).parents[2] / "bench/keylime_worker.py"
        self._process = subprocess.Popen(
            [venv / "bin/python", worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        self._say(inputs)

    def time(self, case: str, count: int) -> Took:
        """So many calls."""
        self._say({"case": case, "count": count})
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if not answer["accepted"]:
            raise SystemExit(f"Keylime does not take what it was given for {case}")
        return Took(wall=answer["wall"] / count, cpu=answer["cpu"] / count)

    def _say(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


class AsciiList:
    """The host's IMA list as the kernel prints it, in template ima-ng, and what PCR 10 then holds."""

    def __init__(self, host: Attested) -> None:
        self.lines: list[str] = []
        self.pcr10 = bytes(32)
        for name, digest in host.entries:
            data = ima_file(name, digest, b"ima-ng")
            self.lines.append(f"10 {hashlib.sha1(data).hexdigest()} ima-ng sha256:{digest.hex()} {name}")
            self.pcr10 = extended(self.pcr10, hashlib.sha256(data).digest())


def keylime_quote(key: EccAk | RsaAk, values: dict[int, bytes], nonce: str) -> tuple[str, str]:
    """The key and the quote as Keylime's agents send them, with the PCR values in the layout of tpm2-tools."""
    quoted = attest(nonce.encode(), {"sha256": values})
    mask = sum(1 << index for index in values)
    pcrs = struct.pack("<I", 1) + struct.pack("<HB4sB", 0x000B, 3, struct.pack("<I", mask), 0) + bytes(8 * 15)
    blocks = [list(values.values())[at : at + 8] for at in range(0, len(values), 8)]
    pcrs += struct.pack("<I", len(blocks))
    for block in blocks:
        pcrs += struct.pack("<I", len(block))
        pcrs += b"".join(struct.pack("<H", len(value)) + value.ljust(64, b"\0") for value in block)
        pcrs += bytes(66 * (8 - len(block)))
    parts = (quoted, key.sign(quoted), pcrs)
    public = struct.pack(">H", len(key.public)) + key.public
    return base64.b64encode(public).decode(), "r" + ":".join(base64.b64encode(part).decode() for part in parts)


def keylime_inputs(host: Attested, text: AsciiList, keys: dict[str, EccAk | RsaAk]) -> dict[str, Any]:
    """What Keylime's side is given."""
    nonce = "0123456789abcdefABCD"
    values = {index: host.values[index] for index in QUOTED}
    inputs: dict[str, Any] = {
        "nonce": nonce,
        "boot_log": base64.b64encode(host.evidence.boot_log).decode(),
        "ima": text.lines,
        "digests": {file.path: [file.sha256] for file in host.image.files} | dict([_aggregate(host)]),
        "pcr10": text.pcr10.hex(),
    }
    for kind, key in keys.items():
        inputs[f"{kind}_ak"], inputs[f"{kind}_quote"] = keylime_quote(key, values, nonce)
    return inputs


def _aggregate(host: Attested) -> tuple[str, list[str]]:
    name, digest = host.entries[0]
    return name, [digest.hex()]
