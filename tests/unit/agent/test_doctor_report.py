# SPDX-License-Identifier: Apache-2.0
"""What a report gives away, and what it does not."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.doctor.facts import FILES, SECURE_BOOT, VULNERABILITIES, collect
from agent.doctor.redact import Redactor
from agent.doctor.report import LIMIT, make_report

DIGEST = "sha256:" + "0123456789abcdef" * 4
UUID = "22222222-2222-4222-8222-222222222222"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("from 10.1.2.3 to 10.1.2.4, back to 10.1.2.3", "from [ADDRESS-1] to [ADDRESS-2], back to [ADDRESS-1]"),
        ("fe80::1%eth0", "[ADDRESS-1]%eth0"),
        ("2001:db8:0:0:0:0:0:1 listens", "[ADDRESS-1] listens"),
        ("52:54:00:Ab:cd:ef and 52:54:00:ab:CD:EF", "[MAC-1] and [MAC-1]"),
        ("https://ann:pw@mirror.example/x", "https://mirror.example/x"),
        ("password = hunter2, next", "password = [SECRET], next"),
        ('"proxy_password": "hunter 2"', '"proxy_password": [SECRET]'),
        ("/home/ann/image.raw", "/home/[USER-1]/image.raw"),
        ("mail ann@example.org", "mail [MAIL-1]"),
        ("host pc7 (pc7.local), not pc77", "host [HOST-1] ([HOST-1].local), not pc77"),
        ("-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nrest", "[PEM]\nrest"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[PEM]"),
        (f"{DIGEST} {UUID} platform 3 at 2026-11-26T02:15:09Z", f"{DIGEST} {UUID} platform 3 at 2026-11-26T02:15:09Z"),
        ("listen 127.0.0.1 and ::1", "listen 127.0.0.1 and ::1"),
        ("version 9.0.0 of 3.0.22-1", "version 9.0.0 of 3.0.22-1"),
    ],
)
def test_what_tells_who_and_where_is_taken_out(text: str, shown: str) -> None:
    assert Redactor([("pc7", "HOST")]).redact(text) == shown


@given(st.lists(st.ip_addresses().map(str) | st.text(" abc:.0123456789", max_size=5), max_size=8).map(" ".join))
def test_no_address_of_a_network_is_left(text: str) -> None:
    shown = Redactor().redact(text)
    left = re.findall(r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])", shown)
    assert set(left) <= {"127.0.0.1", "0.0.0.0"}
    assert Redactor().redact(shown) == shown


def test_a_report_is_the_same_bytes_for_the_same_contents() -> None:
    contents = {"b.json": {"z": 1, "a": ["10.0.0.1"]}, "a.txt": "10.0.0.1"}
    first, second = (make_report(contents, Redactor()) for _ in range(2))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        texts = {entry.name: archive.extractfile(entry).read().decode() for entry in archive}  # type: ignore[union-attr]
    assert list(texts) == ["vmgate-report/a.txt", "vmgate-report/b.json"]
    assert texts["vmgate-report/a.txt"] == "[ADDRESS-1]"
    assert json.loads(texts["vmgate-report/b.json"]) == {"a": ["[ADDRESS-1]"], "z": 1}


def test_a_long_file_keeps_its_end() -> None:
    packed = make_report({"log": "old" + "x" * LIMIT + "new"}, Redactor())
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        data = archive.extractfile("vmgate-report/log").read()  # type: ignore[union-attr]
    assert len(data) == LIMIT
    assert data.endswith(b"xnew")


def test_facts_are_read_below_the_root(tmp_path: Path) -> None:
    for name in (*FILES, f"{VULNERABILITIES}/mds", SECURE_BOOT):
        path = tmp_path / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\6\0\0\0\1" if name == SECURE_BOOT else name.encode())
    (tmp_path / "var/lib/vmgate").mkdir(parents=True)
    (tmp_path / "proc/swaps").write_text("Filename Type\n/dev/dm-9 partition\n/dev/none partition\n")
    (tmp_path / "sys/block/dm-9/dm").mkdir(parents=True)
    (tmp_path / "sys/block/dm-9/dm/uuid").write_text("CRYPT-PLAIN-swap")
    blob = tmp_path / "var/lib/vmgate/store/ab" / ("ab" * 32)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    facts = collect(tmp_path)
    assert facts.store is not None
    assert facts.store[0] not in ("", "unknown")
    assert facts.store[1] in ("on", "off", "missing")
    assert set(FILES) <= facts.files.keys()
    assert facts.files[f"{VULNERABILITIES}/mds"] == f"{VULNERABILITIES}/mds"
    assert facts.swaps == {"/dev/dm-9": True, "/dev/none": False}
    assert facts.secure_boot is True
    assert 0 <= (facts.free or -1) <= 1
    assert "/var/lib/vmgate" in facts.places


def test_what_is_no_file_or_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "etc/group").mkdir(parents=True)
    (tmp_path / "etc/libvirt").mkdir()
    (tmp_path / "etc/libvirt/qemu.conf").write_bytes(b"#" * 1_000_001)
    facts = collect(tmp_path)
    assert not {"/etc/group", "/etc/libvirt/qemu.conf"} & facts.files.keys()
    assert collect(tmp_path / "none").files == {}
