# SPDX-License-Identifier: Apache-2.0
"""What holds for documents of every type: they are read strictly, and encoding and parsing undo each other."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import documents
from documents.canonical import Json, encode
from documents.definition import VmDefinition
from documents.document import Document
from documents.errors import DocumentError, DocumentNewer, DocumentTooLarge
from documents.evidence import Evidence
from documents.host_devices import HostDevices
from documents.host_image import HostImage
from documents.host_state import SealedKey
from documents.local_api import Response
from documents.recovery import RecoveryKey
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.state_record import StateRecord
from documents.verdict import Verdict
from lab.documents import DOCUMENTS, damaged, lookup, places

EACH = pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.TYPE)
OPTIONAL: dict[type[Document], set[str]] = {
    Evidence: {"baseline", "command_line", "identity"},
    HostDevices: {"owner", "serial"},
    HostImage: {"firmware_events", "secure_boot"},
    Release: {"urgent", "waves"},
    SecurityPolicy: {
        "collect",
        "devices",
        "digests",
        "disks",
        "drift",
        "kernel_denied",
        "kernel_required",
        "local",
        "networks",
        "revocation",
        "verdict_seconds",
        "warn_only",
    },
    StateRecord: {"image"},
    Verdict: {"expires", "kept", "taken"},
    RecoveryKey: {"seal"},
    SealedKey: {"ahead", "floor"},
    VmDefinition: {"address", "devices", "introspection", "networks", "restart"},
}
"""Members that are absent in their default: no other way to write that is read."""
OTHER_TYPES: tuple[Json, ...] = (None, True, 7, "text", ["text"], {"member": "text"})


def free(kind: type[Document], at: tuple[str | int, ...]) -> bool:
    """Whether a place holds any JSON by design: only the result of a response does."""
    return kind is Response and len(at) > 1 and at[0] == "result"


def refuses(kind: type[Document], value: Any) -> None:
    with pytest.raises(DocumentError):
        kind.parse(encode(value))


def test_every_type_has_a_strategy() -> None:
    for module in pkgutil.iter_modules(documents.__path__):
        importlib.import_module(f"documents.{module.name}")
    # By type: a dataclass with slots leaves the class that it replaced among the subclasses.
    assert sorted(kind.TYPE for kind in DOCUMENTS) == sorted({kind.TYPE for kind in Document.__subclasses__()})


@EACH
@settings(max_examples=50)
@given(data=st.data())
def test_parse_undoes_encode(kind: type[Document], data: st.DataObject) -> None:
    document = data.draw(DOCUMENTS[kind])
    encoded = document.encode()
    parsed = kind.parse(encoded)
    assert parsed == document
    assert parsed.encode() == encoded


@EACH
@settings(max_examples=5)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_another_document(kind: type[Document], data: st.DataObject) -> None:
    for untrusted in damaged(data.draw(DOCUMENTS[kind]).encode()):
        try:
            parsed = kind.parse(untrusted)
        except DocumentError:
            continue
        assert parsed.encode() == untrusted


@EACH
@settings(max_examples=50)
@given(data=st.data())
def test_another_value_in_one_place_is_refused_or_another_document(kind: type[Document], data: st.DataObject) -> None:
    value: Any = json.loads(data.draw(DOCUMENTS[kind]).encode())
    *path, last = data.draw(st.sampled_from([at for at in places(value) if at]))
    lookup(value, tuple(path))[last] = data.draw(st.sampled_from(["", "..", "-1", -1, 0, 2**31 + 1, 2**63 - 1, [], {}]))
    untrusted = encode(value)
    try:
        parsed = kind.parse(untrusted)
    except DocumentError:
        return
    assert parsed.encode() == untrusted


@EACH
@settings(max_examples=10)
@given(data=st.data())
def test_every_member_must_have_its_type(kind: type[Document], data: st.DataObject) -> None:
    value: Any = json.loads(data.draw(DOCUMENTS[kind]).encode())
    for at in places(value):
        if not at or free(kind, at):
            continue
        for other in OTHER_TYPES:
            if type(other) is not type(lookup(value, at)):
                changed = copy.deepcopy(value)
                lookup(changed, at[:-1])[at[-1]] = other
                refuses(kind, changed)


@EACH
@settings(max_examples=10)
@given(data=st.data())
def test_every_member_must_be_there_and_no_other(kind: type[Document], data: st.DataObject) -> None:
    value: Any = json.loads(data.draw(DOCUMENTS[kind]).encode())
    for at in places(value):
        if not isinstance(lookup(value, at), dict) or free(kind, (*at, "member")):
            continue
        for name in set(lookup(value, at)) - OPTIONAL.get(kind, set()):
            missing = copy.deepcopy(value)
            del lookup(missing, at)[name]
            refuses(kind, missing)
        for name in ("", "zzz", "Type", "type ", "__class__"):
            unknown = copy.deepcopy(value)
            lookup(unknown, at)[name] = 1
            refuses(kind, unknown)


@EACH
@settings(max_examples=10)
@given(data=st.data())
def test_only_the_canonical_bytes_are_read(kind: type[Document], data: st.DataObject) -> None:
    encoded = data.draw(DOCUMENTS[kind]).encode()
    value: dict[str, Json] = json.loads(encoded)
    backwards = dict(reversed(value.items()))
    others = {
        "repeated member": encoded[:-1] + b',"version":1}',
        "unsorted": json.dumps(backwards, separators=(",", ":"), ensure_ascii=False).encode(),
        "indented": json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode(),
        "line end": encoded + b"\n",
        "float": encoded.replace(b'"version":1', b'"version":1.0'),
        "huge number": encoded.replace(b'"version":1', b'"version":' + b"1" * 5_000),
        "deep nesting": encoded[:-1] + b',"z":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        "twice": encoded + encoded,
    }
    for name, untrusted in others.items():
        with pytest.raises(DocumentError):
            kind.parse(untrusted)
        assert untrusted != encoded, name


@EACH
def test_bytes_over_the_bound_are_refused_before_parsing(kind: type[Document]) -> None:
    with pytest.raises(DocumentTooLarge):
        kind.parse(bytes(kind.LIMIT + 1))


@EACH
@settings(max_examples=5)
@given(data=st.data())
def test_a_newer_version_is_told_apart(kind: type[Document], data: st.DataObject) -> None:
    """Even where the newer version has members that this one does not know: the way out is an update."""
    value: Any = json.loads(data.draw(DOCUMENTS[kind]).encode())
    value["version"] = kind.VERSION + 1
    value["of-the-future"] = {}
    with pytest.raises(DocumentNewer) as caught:
        kind.parse(encode(value))
    assert caught.value.exit == 7
    refuses(kind, {**value, "version": 0})


@EACH
@settings(max_examples=5)
@given(data=st.data())
def test_another_type_is_refused(kind: type[Document], data: st.DataObject) -> None:
    encoded = data.draw(DOCUMENTS[kind]).encode()
    for other in DOCUMENTS:
        if other is not kind:
            with pytest.raises(DocumentError):
                other.parse(encoded)


@EACH
@given(untrusted=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(kind: type[Document], untrusted: bytes) -> None:
    with pytest.raises(DocumentError):
        kind.parse(untrusted)
