# SPDX-License-Identifier: Apache-2.0
"""Sealing by the plain value of PCR 13 (TPM2_PolicyPCR), with tpm2-tools: what vmgate's sealing is compared with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PCRS = "sha256:13"


def _tool(tcti: str, *command: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"TPM2TOOLS_TCTI": tcti}
    return subprocess.run([*map(str, command)], capture_output=True, check=False, env=environment, timeout=60)


def _must(tcti: str, *command: str | Path) -> None:
    done = _tool(tcti, *command)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode()[-300:]}")


def seal_plain(tcti: str, folder: Path, secret: bytes) -> None:
    """Seal ``secret`` to the present value of PCR 13; the blob goes into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_bytes(secret)
    _must(tcti, "tpm2_createprimary", "-C", "o", "-c", folder / "primary.ctx")
    _must(tcti, "tpm2_flushcontext", "-t")
    _must(tcti, "tpm2_createpolicy", "--policy-pcr", "-l", PCRS, "-L", folder / "policy")
    _must(
        tcti, "tpm2_create", "-C", folder / "primary.ctx", "-L", folder / "policy", "-i", folder / "secret",
        "-u", folder / "public", "-r", folder / "private",
    )  # fmt: skip
    _flush(tcti)


def open_plain(tcti: str, folder: Path) -> bytes:
    """What the TPM gives for the blob; empty when it does not open it."""
    _must(tcti, "tpm2_createprimary", "-C", "o", "-c", folder / "primary.ctx")
    _must(tcti, "tpm2_flushcontext", "-t")
    _must(
        tcti, "tpm2_load", "-C", folder / "primary.ctx", "-u", folder / "public", "-r", folder / "private",
        "-c", folder / "blob.ctx",
    )  # fmt: skip
    # These tools leave what they loaded in the TPM, which has room for three objects.
    _must(tcti, "tpm2_flushcontext", "-t")
    done = _tool(tcti, "tpm2_unseal", "-c", folder / "blob.ctx", "-p", f"pcr:{PCRS}")
    _flush(tcti)
    return done.stdout if done.returncode == 0 else b""


def _flush(tcti: str) -> None:
    """Leave no object and no session behind in the TPM."""
    for kind in ("-t", "-l", "-s"):
        _must(tcti, "tpm2_flushcontext", kind)
