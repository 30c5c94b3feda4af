# SPDX-License-Identifier: Apache-2.0
"""Rules that tie the members of one document together, and the forms of names, paths and errors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.bundle import BundleEntry, BundleIndex
from documents.canonical import encode
from documents.definition import Disk, VmDefinition
from documents.document import Document
from documents.errors import DocumentError, Exit, VmgateError
from documents.fields import Fields, encode_bytes
from documents.host_files import HostFile, HostFiles
from documents.host_state import Floor, Generation, WrappedVmKey
from documents.local_api import Request, Response
from documents.recovery import RecoveryKey
from documents.security_policy import SecurityPolicy
from lab.documents import releases

A, B = "aa" * 32, "bb" * 32
UUID = "3f0c6d1e-8f5e-4e9b-9d3a-6f1f6f1f6f1f"
BUNDLE = BundleIndex(
    entries=(
        BundleEntry(name="blobs/aa/aabb", offset=0, length=3),
        BundleEntry(name="metadata/1.root.json", offset=3, length=4),
    )
)
FILES = HostFiles(
    root="host",
    packages=(("qemu-system-x86", "1:7.2+dfsg-7"),),
    files=(HostFile(path="/usr/bin/a", fsverity=A, length=1), HostFile(path="/usr/bin/b", fsverity=B, length=2)),
)
DEFINITION = VmDefinition(
    name="guest",
    uuid=UUID,
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=256,
    disks=(Disk(name="root", image=A, length=4096, disk_class="readonly"),),
    guardians=("tpm",),
)
POLICY = SecurityPolicy(allow=("AllowEmulation", "AllowSoftwareTpm"), max_vcpus=2, max_memory_mib=1024)
FLOOR = Floor(time=0, root=1, releases=(("a", 1), ("b", 1)))
KEY = WrappedVmKey(uuid=UUID, guardian="tpm", nonce=bytes(12), ciphertext=bytes(48))
REQUEST = Request(verb="vm/start", arguments=(("name", "guest"), ("xml", "<domain/>\n\0")), actor="command")


def refused(document: Document, why: str, **changes: Any) -> None:
    value = json.loads(document.encode())
    value.update(changes)
    with pytest.raises(DocumentError, match=why):
        type(document).parse(encode(value))


def test_sane() -> None:
    for document in (BUNDLE, FILES, DEFINITION, POLICY, FLOOR, KEY, REQUEST):
        assert type(document).parse(document.encode()) == document


def test_bundle_entries_are_sorted_and_without_gaps() -> None:
    first, second = (entry.members() for entry in BUNDLE.entries)
    refused(BUNDLE, "empty or not sorted", entries=[])
    refused(BUNDLE, "not sorted", entries=[{**second, "offset": 0}, {**first, "offset": 4}])
    refused(BUNDLE, "not sorted", entries=[first, {**first, "offset": 3}])
    refused(BUNDLE, "gap or overlaps", entries=[first, {**second, "offset": 2}])
    refused(BUNDLE, "gap or overlaps", entries=[first, {**second, "offset": 4}])
    refused(BUNDLE, "gap or overlaps", entries=[{**first, "offset": 1}])
    assert BUNDLE.size == 7


@pytest.mark.parametrize(
    "name",
    [
        "metadata",
        "/metadata/a",
        "metadata/../a",
        "metadata/.a",
        "metadata//a",
        "etc/passwd",
        "blobs/a/b/c/d/e",
        "blobs/a\n",
    ],
)
def test_bundle_names(name: str) -> None:
    refused(BUNDLE, "not in its form", entries=[{"name": name, "offset": 0, "length": 1}])


def test_host_files_are_sorted_and_distinct() -> None:
    first, second = (entry.members() for entry in FILES.files)
    refused(FILES, "not sorted", files=[second, first])
    refused(FILES, "not sorted", files=[first, first])
    refused(FILES, "is empty", files=[])
    package = {"name": "ovmf", "version": "2022.11-6"}
    refused(FILES, "not sorted", packages=[package, package])
    refused(FILES, "not one of", root="/")


@pytest.mark.parametrize(
    "path", ["usr/bin/a", "/", "/usr/../etc/shadow", "/usr/./a", "/usr//a", "/usr/a b", "/usr/..", "/u/\n"]
)
def test_paths(path: str) -> None:
    refused(FILES, "not in its form", files=[{"path": path, "fsverity": A, "length": 1}])


def test_names_that_only_look_like_parents_are_names() -> None:
    for path in ("/usr/..a", "/usr/.a", "/usr/...", "/usr/a..b"):
        files = (HostFile(path=path, fsverity=A, length=1),)
        assert HostFiles.parse(dataclasses.replace(FILES, files=files).encode()).files == files


def test_definition() -> None:
    disk = DEFINITION.disks[0].members()
    refused(DEFINITION, "is empty", disks=[])
    refused(DEFINITION, "repeats", disks=[disk, disk])
    refused(DEFINITION, "not one of", disks=[{**disk, "class": "shared"}])
    refused(DEFINITION, "'size_mib' is missing", disks=[{**disk, "class": "persistent"}])
    refused(DEFINITION, "is empty or names an unknown", guardians=[])
    refused(DEFINITION, "is empty or names an unknown", guardians=["fleet"])
    for machine in ("q35", "pc-q35-7.2.1", "pc-q35-\u0667.2", "pc-i440fx-7.2", "pc-q35-7.2\n"):
        refused(DEFINITION, "member 'machine'", machine=machine)
    for uuid in (UUID.upper(), UUID.replace("-", ""), "{" + UUID + "}"):
        refused(DEFINITION, "member 'uuid'", uuid=uuid)


def test_security_policy() -> None:
    refused(POLICY, "not sorted", allow=["AllowSoftwareTpm", "AllowEmulation"])
    refused(POLICY, "not sorted", allow=["AllowEmulation", "AllowEmulation"])
    refused(POLICY, "not known", allow=["AllowEverything"])
    refused(POLICY, "not known", allow=[True])


def test_floor() -> None:
    first, second = json.loads(FLOOR.encode())["releases"]
    refused(FLOOR, "not sorted", releases=[second, first])
    refused(FLOOR, "not sorted", releases=[first, {**first, "number": 2}])


def test_vm_key_has_a_nonce_that_gcm_takes() -> None:
    for size in (0, 7, 11):
        refused(KEY, "12 bytes", nonce=encode_bytes(bytes(size)))


@given(data=st.data())
def test_generation_holds_one_platform_release_and_sorted_channels(data: st.DataObject) -> None:
    platform = encode_bytes(data.draw(releases("platform", "m")).encode())
    other = encode_bytes(data.draw(releases("platform", "n")).encode())
    workload = encode_bytes(data.draw(releases("workload", "a")).encode())
    sane = Generation.parse(
        encode({"type": Generation.TYPE, "version": 1, "number": 1, "stale": False, "releases": [workload, platform]})
    )
    assert sane.platform.channel == "m"
    assert [release.channel for release in sane.workloads] == ["a"]
    refused(sane, "not sorted", releases=[platform, workload])
    refused(sane, "not sorted", releases=[platform, platform])
    refused(sane, "exactly one platform", releases=[workload])
    refused(sane, "exactly one platform", releases=[platform, other])
    refused(sane, "is empty", releases=[])
    refused(sane, "vmgate.release was refused", releases=[encode_bytes(b"{}")])


def test_requests_carry_any_text_but_sorted_names() -> None:
    name, xml = json.loads(REQUEST.encode())["arguments"]
    refused(REQUEST, "not sorted", arguments=[xml, name])
    refused(REQUEST, "not sorted", arguments=[name, name])
    refused(REQUEST, "not in its form", actor="root\nroot")


def test_response_has_an_error_exactly_where_it_failed() -> None:
    sane = Response(exit=5, error="error[AG010]: no", result={})
    assert Response.parse(sane.encode()) == sane
    refused(sane, "does not fit", exit=0)
    refused(sane, "does not fit", error="")
    refused(sane, "does not fit", exit=77)
    refused(sane, "not an object", result=[])


@pytest.mark.parametrize(
    "text", ["AA=", "AA", "AB==", "A", "AA==\n", " AA==", "AA==AA==", "-_==", "\u00e9AAA", "A" * 400]
)
def test_base64_is_canonical(text: str) -> None:
    with pytest.raises(DocumentError):
        Fields({"data": text}, "test").take_bytes("data", 100)


@given(st.binary(max_size=100))
def test_base64(data: bytes) -> None:
    assert Fields({"data": encode_bytes(data)}, "test").take_bytes("data", 100) == data
    with pytest.raises(DocumentError):
        Fields({"data": encode_bytes(data + b"x")}, "test").take_bytes("data", len(data))


@given(st.text("ABCQabcz019+/=-_ \n\xe9", max_size=16))
def test_no_other_text_is_taken_for_base64(text: str) -> None:
    """One text for one content: what is taken is what would be written."""
    try:
        data = Fields({"data": text}, "test").take_bytes("data", 100)
    except DocumentError:
        return
    assert encode_bytes(data) == text


@given(what=st.text(max_size=40), cause=st.text(max_size=40))
def test_an_error_is_one_printable_line(what: str, cause: str) -> None:
    error = VmgateError(what, cause=cause, remedy="a\r\nb\x1b[2J\u202e\udc80")
    line = error.line()
    assert line.isprintable()
    assert line.startswith("error[VG000]: ")
    line.encode()


def test_exit_codes_are_the_contract() -> None:
    assert {code.name: int(code) for code in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "NOT_PERMITTED": 4,
        "REFUSED": 5,
        "POLICY": 6,
        "NOT_READY": 7,
        "UNREACHABLE": 8,
        "TIMED_OUT": 9,
        "INTERRUPTED": 130,
    }


def test_a_vm_is_guarded_by_the_tpm_at_least_and_by_nobody_unknown() -> None:
    both = replace(DEFINITION, guardians=("tpm", "recovery"))
    assert VmDefinition.parse(both.encode()) == both
    refused(DEFINITION, "does not name tpm", guardians=["recovery"])
    refused(DEFINITION, "unknown guardian", guardians=["tpm", "fleet"])
    refused(DEFINITION, "repeats an item", guardians=["tpm", "tpm"])


def test_a_recovery_copy_has_all_its_members_and_a_key_of_the_tpm_none() -> None:
    copy = replace(KEY, guardian="recovery", key=A, sender=bytes(65), check=bytes(32))
    assert WrappedVmKey.parse(copy.encode()) == copy
    for name, wrong in (("sender", bytes(64)), ("sender", b""), ("check", bytes(31)), ("check", b"")):
        refused(copy, f"is not {len(getattr(copy, name))} bytes", **{name: encode_bytes(wrong)})
    refused(copy, "unknown", guardian="tpm")
    refused(KEY, "missing", guardian="recovery")
    refused(KEY, "unknown", key=A)


def test_a_recovery_key_is_named_by_its_digest() -> None:
    public = b"a public key"
    key = RecoveryKey(id=hashlib.sha256(public).hexdigest(), public=public, created=1)
    assert RecoveryKey.parse(key.encode()) == key
    refused(key, "not the digest", id=A)
    refused(key, "not the digest", public=encode_bytes(b"another"))
    for size in (0, 31):
        refused(key, "32 bytes", seal=encode_bytes(bytes(size)))
