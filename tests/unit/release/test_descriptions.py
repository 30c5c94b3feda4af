# SPDX-License-Identifier: Apache-2.0
"""What describes a release is in the form of its standard, and the same bytes for the same input."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lxml import etree

from lab.releasing import REPORT, load_release

load_release()

from release.bom import bill_of_materials  # noqa: E402
from release.provenance import Built, encoded, envelope, statement  # noqa: E402
from release.resolved import lock, read  # noqa: E402
from release.tag import NAMESPACE, swid_tag, version  # noqa: E402

MADE = datetime(2026, 11, 26, tzinfo=UTC)


def report() -> dict[str, Any]:
    value: dict[str, Any] = copy.deepcopy(REPORT)
    value["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"] = "00" * 32
    return value


def test_a_report_is_read() -> None:
    zstd, tuf, own = read(report())
    assert (own.name, own.version, own.licence, own.needs) == (
        "vmgate",
        "0.1.0",
        "Apache-2.0",
        ("backports-zstd", "tuf"),
    )
    assert (tuf.file, tuf.needs) == ("tuf-7.0.1-py3-none-any.whl", ())
    assert (zstd.purl, zstd.licence) == ("pkg:pypi/backports-zstd@1.1.0", "")


def test_a_distribution_without_a_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="vmgate has no digest"):
        read(REPORT)
    with pytest.raises(ValueError, match="not a report"):
        read({**report(), "version": "2"})


def test_the_lock_file_has_a_digest_for_each_but_the_wheel() -> None:
    assert lock(read(report()), "vmgate").decode().splitlines() == [
        f"backports-zstd==1.1.0 --hash=sha256:{'22' * 32}",
        f"tuf==7.0.1 --hash=sha256:{'11' * 32}",
    ]


def test_the_bill_of_materials_is_one_and_the_same_twice() -> None:
    first, again = (bill_of_materials(read(report()), "vmgate", MADE) for _ in range(2))
    assert first == again
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(first.decode()) is None
    value = json.loads(first)
    assert value["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "00" * 32}]
    assert {component["name"] for component in value["components"]} == {"tuf", "backports-zstd"}
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in value["dependencies"]}
    assert needs["pkg:pypi/vmgate@0.1.0"] == ["pkg:pypi/backports-zstd@1.1.0", "pkg:pypi/tuf@7.0.1"]


def test_the_tag_in_the_package_is_of_the_running_version() -> None:
    """FPT_IDV_EXT.1: the file is there, and has SoftwareIdentity and Entity."""
    tag = files("vmgate").joinpath("vmgate.swidtag").read_bytes()
    assert tag == swid_tag(version()), "write it anew: PYTHONPATH=. python -P -m release.tag"
    root = etree.fromstring(tag)
    assert root.tag == f"{{{NAMESPACE}}}SoftwareIdentity"
    assert (root.get("name"), root.get("version")) == ("vmgate", version())
    assert {"tagCreator", "softwareCreator"} == set(root.find(f"{{{NAMESPACE}}}Entity").get("role").split())


def test_the_tag_of_a_release_names_its_files() -> None:
    root = etree.fromstring(swid_tag("1.2", {"b.whl": (7, "bb" * 32), "a.whl": (5, "aa" * 32)}))
    found = [(file.get("name"), file.get("size")) for file in root.iter(f"{{{NAMESPACE}}}File")]
    assert found == [("a.whl", "5"), ("b.whl", "7")]


def test_the_provenance_is_a_statement_in_an_envelope() -> None:
    built = Built(subjects={"w.whl": "ab" * 32}, commit="c" * 40, tools={"hatchling": "1"}, source_time="t")
    value = json.loads(envelope(statement(built), lambda data: data))
    assert base64.b64decode(value["signatures"][0]["sig"]) == encoded(statement(built))
    said = json.loads(base64.b64decode(value["payload"]))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["subject"] == [{"name": "w.whl", "digest": {"sha256": "ab" * 32}}]
    assert said["predicate"]["buildDefinition"]["externalParameters"] == {"commit": "c" * 40}
    # The example of DSSE's protocol, section "test vectors", with our type.
    assert encoded(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
