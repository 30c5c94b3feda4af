# SPDX-License-Identifier: Apache-2.0
"""The gate's look at how a disk begins; all its other checks run in ``tests/integration/gate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.gate import Gate
from agent.vms import way_out
from content.store import ContentStore
from documents.definition import Disk
from documents.verdict import Verdict
from hypervisor.errors import ImageUnreadable
from lab.qcow2 import RAW, Written


def gate(store: ContentStore) -> Gate:
    unused: Any = None
    return Gate(unused, store, unused, lambda: 0, unused)


def disk(store: ContentStore, content: bytes) -> Disk:
    made = store.add_bytes(content)
    return Disk(name="system", image=made.fsverity, length=made.length, disk_class="readonly")


def test_a_signed_image_that_begins_like_qcow2_is_refused_and_the_way_out_is_told(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    finding = gate(store)._check_format(disk(store, Written(name=b"/etc/shadow", extensions=(RAW,)).encode()))
    assert (finding.check, finding.subject, finding.outcome) == ("disk-format", "disk system", "fail")
    assert (finding.expected, finding.found) == ("raw", "qcow2, naming /etc/shadow")
    assert "another format" in way_out(Verdict(subject="demo", level="L0", time=0, findings=(finding,)))


def test_a_raw_image_passes(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    finding = gate(store)._check_format(disk(store, bytes(4096)))
    assert (finding.check, finding.outcome, finding.found) == ("disk-format", "pass", "raw")


def test_an_image_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    absent = disk(store, bytes(4096))
    store.path(absent.image).unlink()
    with pytest.raises(ImageUnreadable):
        gate(store)._check_format(absent)
