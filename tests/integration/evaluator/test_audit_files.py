# SPDX-License-Identifier: Apache-2.0
"""The evaluator's step for FAU_STG.1: as somebody without authority, try to change and to delete what was recorded."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.audit import AuditTrail, records, verify

NOBODY = 65534
ATTEMPTS = {
    "read": "open(path, 'rb')",
    "write": "open(path, 'r+b')",
    "append": "open(path, 'ab')",
    "truncate": "os.truncate(path, 0)",
    "remove": "os.unlink(path)",
    "put a link beside it": "os.symlink('/dev/null', path + '.2')",
    "move away": "os.rename(path, '/tmp/taken')",
    "rotate": "os.rename(path, path + '.1')",
    "add a file beside it": "open(path + '.new', 'wb')",
    "change its mode": "os.chmod(path, 0o666)",
    "see what is there": "os.listdir(os.path.dirname(path))",
}
AS_NOBODY = """
import os, sys
path = sys.argv[1]
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
try:
    {attempt}
except PermissionError:
    print("refused")
"""


@pytest.fixture(scope="module")
def trail() -> Iterator[Path]:
    """In a folder that everybody may enter: what keeps others out is the trail's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "audit"
        written = AuditTrail(folder, lambda: 1_800_000_000, "b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f")
        written.append("vm-start", "refused", "guest", "uid 0", check="image")
        yield folder


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_without_authority_no_record_is_reached(trail: Path, attempt: str) -> None:
    files = sorted(trail.iterdir())
    before = [file.read_bytes() for file in files]
    assert files
    for file in files:
        program = AS_NOBODY.format(nobody=NOBODY, attempt=attempt)
        told = subprocess.run(
            [sys.executable, "-I", "-c", program, str(file)], capture_output=True, text=True, check=False
        )
        assert told.stdout == "refused\n", told.stderr
        assert sorted(trail.iterdir()) == files
        assert [file.read_bytes() for file in files] == before
    assert verify(trail).sequence == 1
    assert [record.event for record in records(trail)] == ["vm-start"]
