# SPDX-License-Identifier: Apache-2.0
"""The variables template holds the publisher's keys and nobody else's, made by the real ``virt-fw-vars``."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.errors import FirmwareWrong, ProgramFailed
from publisher.firmware import (
    CERT_X509,
    GLOBAL,
    IMAGE_SECURITY,
    SecureBootKeys,
    Variable,
    enrol,
    expected_variables,
    read_variables,
    signature_list,
    verify_template,
    verify_variables,
)
from publisher.signing import create_image_key

BLANK = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
MICROSOFT = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def tool(pytestconfig: pytest.Config) -> Path:
    cache = os.environ.get("VMGATE_CACHE", pytestconfig.rootpath / ".cache")
    return Path(cache) / "tools/bin/virt-fw-vars"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SecureBootKeys:
    made = [
        create_image_key(tmp_path_factory.mktemp(name), b"secret", name, NOW).certificate
        for name in ("platform", "exchange", "database")
    ]
    return SecureBootKeys(
        platform=made[0],
        exchange=made[1],
        database=made[2],
        owner=uuid.UUID("5b4f7e52-8f0a-4f7e-9d3c-6f1f0a3c9b11"),
    )


def test_the_template_holds_our_keys_alone(keys: SecureBootKeys, tool: Path, tmp_path: Path) -> None:
    enrol(BLANK, tmp_path / "vars.fd", keys, tool)
    assert [path.name for path in tmp_path.iterdir()] == ["vars.fd"]
    assert (tmp_path / "vars.fd").stat().st_size == BLANK.stat().st_size
    verify_template(tmp_path / "vars.fd", keys, tool)
    assert {name for name, _ in read_variables(tmp_path / "vars.fd", tool)} == {
        "CustomMode",
        "KEK",
        "PK",
        "SecureBootEnable",
        "db",
        "dbx",
    }


def test_the_same_input_gives_the_same_bytes(keys: SecureBootKeys, tool: Path, tmp_path: Path) -> None:
    for name in ("one.fd", "two.fd"):
        enrol(BLANK, tmp_path / name, keys, tool)
    assert (tmp_path / "one.fd").read_bytes() == (tmp_path / "two.fd").read_bytes()


def test_a_template_with_somebody_elses_keys_is_refused(keys: SecureBootKeys, tool: Path, tmp_path: Path) -> None:
    (tmp_path / "vars.fd").write_bytes(b"old")
    with pytest.raises(FirmwareWrong, match="none of ours"):
        enrol(MICROSOFT, tmp_path / "vars.fd", keys, tool)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("vars.fd", b"old")]
    with pytest.raises(FirmwareWrong):
        verify_template(BLANK, keys, tool)


def test_other_keys_are_noticed(keys: SecureBootKeys, tool: Path, tmp_path: Path) -> None:
    enrol(BLANK, tmp_path / "vars.fd", keys, tool)
    for name in ("platform", "exchange", "database"):
        other = keys.exchange if name != "exchange" else keys.platform
        with pytest.raises(FirmwareWrong, match="is not as it should be"):
            verify_template(tmp_path / "vars.fd", replace(keys, **{name: other}), tool)


def test_what_is_no_template_or_certificate_is_refused(keys: SecureBootKeys, tool: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"text")
    with pytest.raises(ProgramFailed, match="exit 1"):
        enrol(text, tmp_path / "vars.fd", keys, tool)
    with pytest.raises(FirmwareWrong, match="not a certificate"):
        enrol(BLANK, tmp_path / "vars.fd", replace(keys, database=text), tool)
    with pytest.raises(ProgramFailed, match="install"):
        enrol(BLANK, tmp_path / "vars.fd", keys, tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


NAMES = st.sampled_from([("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY), ("db", GLOBAL), ("extra", GLOBAL)])


@given(name=NAMES, value=st.none() | st.tuples(st.sampled_from([3, 7, 0x27]), st.binary(max_size=40)))
def test_any_difference_is_noticed(keys: SecureBootKeys, name: tuple[str, str], value: Variable | None) -> None:
    expected = expected_variables(keys)
    found = dict(expected)
    if value is None:
        found.pop(name, None)
    else:
        found[name] = value
    if found == expected:
        verify_variables(found, expected)
        return
    with pytest.raises(FirmwareWrong, match=repr(name[0])):
        verify_variables(found, expected)


def test_a_second_certificate_in_a_database_is_noticed(keys: SecureBootKeys) -> None:
    expected = expected_variables(keys)
    attributes, data = expected["db", IMAGE_SECURITY]
    found = expected | {("db", IMAGE_SECURITY): (attributes, data + signature_list(CERT_X509, keys.owner, b"other"))}
    with pytest.raises(FirmwareWrong, match="'db'"):
        verify_variables(found, expected)
