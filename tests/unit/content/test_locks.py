# SPDX-License-Identifier: Apache-2.0
"""One holder at a time, also between processes, and none that outlives its process."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from content import effects
from content.errors import Busy, Missing, StorageFailed
from content.locks import exclusive
from documents.errors import Exit

HOLD = """
import sys
from pathlib import Path
from content.locks import exclusive
with exclusive(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with holder(path) as other:
        with pytest.raises(Busy) as busy, exclusive(path, wait=False):
            pytest.fail("two holders")
        assert busy.value.holder == f"process {other.pid} of boot {boot}"
        assert busy.value.exit is Exit.NOT_READY
        other.communicate()
    with exclusive(path, wait=False):
        pass
    assert path.read_bytes() == b""


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as other:
        other.kill()
        other.wait()
    with exclusive(tmp_path / "lock", wait=False):
        pass


def test_a_patient_one_gets_it_afterwards(tmp_path: Path) -> None:
    order = []

    def wait() -> None:
        with exclusive(tmp_path / "lock", wait=True):
            order.append("second")

    with exclusive(tmp_path / "lock", wait=False):
        thread = threading.Thread(target=wait)
        thread.start()
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / "lock", wait=False):
        raise KeyError
    with exclusive(tmp_path / "lock", wait=False):
        pass


def test_a_lie_in_the_lock_file_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, wait=False):
        path.write_bytes(b"process \x1b[2J of boot 0")
        with pytest.raises(Busy) as busy, exclusive(path, wait=False):
            pass
    assert busy.value.holder == "another process"


def test_a_lock_follows_no_link_and_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(StorageFailed), exclusive(tmp_path / "link", wait=False):
        pass
    with pytest.raises(Missing), exclusive(tmp_path / "none" / "lock", wait=False):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_does_not_keep_the_lock_from_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(effects, "write", full)
        with exclusive(tmp_path / "lock", wait=False):
            with pytest.raises(Busy) as busy, exclusive(tmp_path / "lock", wait=False):
                pytest.fail("two holders")
            assert busy.value.holder == "another process"
