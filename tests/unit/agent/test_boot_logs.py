# SPDX-License-Identifier: Apache-2.0
"""The kernel's logs: read where the host's TPM is the kernel's, and never taken for those of another TPM."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.boot_logs import BOOT_LOG, IMA_LIST, BootLogs
from documents.evidence import BOOT_LOG_LIMIT


@pytest.fixture
def security(tmp_path: Path) -> Path:
    """What a kernel shows."""
    for name, data in ((BOOT_LOG, b"boot"), (IMA_LIST, b"ima")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_logs_of_the_kernels_tpm_are_read(security: Path) -> None:
    logs = BootLogs("device:/dev/tpmrm0", security)
    assert (logs.boot(), logs.ima()) == (b"boot", b"ima")


def test_they_say_nothing_about_another_tpm(security: Path) -> None:
    logs = BootLogs("swtpm:path=/run/tpm.sock", security)
    assert (logs.boot(), logs.ima()) == (b"", b"")


def test_no_log_and_one_over_its_bound_are_none(security: Path) -> None:
    (security / BOOT_LOG).write_bytes(bytes(BOOT_LOG_LIMIT + 1))
    (security / IMA_LIST).unlink()
    logs = BootLogs("device:/dev/tpmrm0", security)
    assert (logs.boot(), logs.ima()) == (b"", b"")
