# SPDX-License-Identifier: Apache-2.0
"""The firmware variables template of all VMs: Secure Boot on, the publisher's own keys, nobody else's.

The variables are written by ``virt-fw-vars`` (package virt-firmware, GPL-2.0): a separate program, never imported.
What it wrote is compared with what it should be, variable by variable. The same input gives the same bytes, since it
takes each variable's time from the certificate and not from a clock (tried with 26.10).

This module does not make keys (``signing`` does) and does not touch the variables of any VM.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from content import durable
from publisher import programs
from publisher.errors import FirmwareWrong
from publisher.signing import PEM_LIMIT

TEMPLATE_LIMIT = 16 * 1024**2
"""Bytes of a variables template; OVMF's have half a MiB."""

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SECURE_BOOT_ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
CUSTOM_MODE = "c076ec0c-7028-4399-a072-71ee5c448b9f"

CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
"""Kinds of entries in a signature database (UEFI 2.10, section 32.4.1)."""

PLACEHOLDER_OWNER = uuid.UUID("a0baa8a3-041d-48a8-bc87-c36d121b5e3d")
PLACEHOLDER_HASH = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
"""What the program puts into dbx so that it is not empty: the SHA-256 of nothing."""

PLAIN = 0x03
AUTHENTICATED = 0x27
"""Attributes: kept and seen by boot services; also seen at run time and changed by signed updates only."""

Variable = tuple[int, bytes]
"""Attributes and data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootKeys:
    """The certificates to enrol (PEM files) and the GUID that says whose they are."""

    platform: Path
    exchange: Path
    database: Path
    owner: uuid.UUID


def enrol(template: Path, out: Path, keys: SecureBootKeys, tool: Path) -> None:
    """Make a variables template.

    Args:
        template: blank variables, such as OVMF's ``OVMF_VARS_4M.fd``.
        out: the new template.
        keys: to enrol.
        tool: the program ``virt-fw-vars``.

    Raises:
        FirmwareWrong: a certificate is none, or the outcome holds anything else than the keys; nothing was written.
        ProgramFailed: the program is missing or failed.
        ContentError: a file cannot be read or written.
    """
    expected = expected_variables(keys)
    owner = str(keys.owner)
    enrolled = durable.temporary(out.parent.absolute())
    command = [str(tool), "--input", str(template.absolute()), "--output", str(enrolled), "--secure-boot"]
    command += ["--set-pk", owner, str(keys.platform.absolute())]
    command += ["--add-kek", owner, str(keys.exchange.absolute())]
    command += ["--add-db", owner, str(keys.database.absolute())]
    try:
        programs.run(command, "the firmware variables were not made")
        verify_variables(read_variables(enrolled, tool), expected)
        durable.copy_file(enrolled, out, 0o644)
    finally:
        durable.remove(enrolled)


def verify_template(path: Path, keys: SecureBootKeys, tool: Path) -> None:
    """Require that a template is one that ``enrol`` would make. Raises as ``enrol`` does."""
    verify_variables(read_variables(path, tool), expected_variables(keys))


def expected_variables(keys: SecureBootKeys) -> dict[tuple[str, str], Variable]:
    """All variables of a template, by name and vendor GUID.

    Raises:
        FirmwareWrong: a certificate is none.
        ContentError: a certificate cannot be read.
    """

    def certificate(path: Path) -> Variable:
        return AUTHENTICATED, signature_list(CERT_X509, keys.owner, read_certificate(path))

    return {
        ("PK", GLOBAL): certificate(keys.platform),
        ("KEK", GLOBAL): certificate(keys.exchange),
        ("db", IMAGE_SECURITY): certificate(keys.database),
        ("dbx", IMAGE_SECURITY): (AUTHENTICATED, signature_list(CERT_SHA256, PLACEHOLDER_OWNER, PLACEHOLDER_HASH)),
        ("SecureBootEnable", SECURE_BOOT_ENABLE): (PLAIN, b"\x01"),
        ("CustomMode", CUSTOM_MODE): (PLAIN, b"\x00"),
    }


def verify_variables(found: Mapping[tuple[str, str], Variable], expected: Mapping[tuple[str, str], Variable]) -> None:
    """Require that two sets of variables are the same.

    Raises:
        FirmwareWrong: naming the first variable that differs.
    """
    for key in sorted({*found, *expected}):
        if key not in expected:
            raise _wrong(f"it holds the variable {key[0]!r}, which is none of ours", "give a blank template")
        if found.get(key) != expected[key]:
            raise _wrong(f"its variable {key[0]!r} is not as it should be", "give a blank template")


def read_variables(path: Path, tool: Path) -> dict[tuple[str, str], Variable]:
    """The variables of a template, by name and vendor GUID.

    Raises:
        FirmwareWrong: what the program says is not in its form.
        ProgramFailed: the program is missing or failed.
    """
    command = [str(tool), "--input", str(path.absolute()), "--output-json", "/dev/stdout"]
    untrusted = programs.run(command, "the firmware variables were not read")
    if len(untrusted) > TEMPLATE_LIMIT:
        raise _wrong("it holds too much", "give a blank template")
    try:
        return {
            (entry["name"], entry["guid"]): (entry["attr"], bytes.fromhex(entry["data"]))
            for entry in json.loads(untrusted)["variables"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong(f"the program's answer is not in its form ({error})", "use virt-firmware 24 or newer") from error


def signature_list(kind: uuid.UUID, owner: uuid.UUID, data: bytes) -> bytes:
    """EFI_SIGNATURE_LIST with one entry (UEFI 2.10, section 32.4.1)."""
    entry = owner.bytes_le + data
    return kind.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def read_certificate(path: Path) -> bytes:
    """A certificate, from PEM to DER.

    Raises:
        FirmwareWrong: it is none.
        ContentError: it cannot be read.
    """
    untrusted_pem = durable.read_file(path, PEM_LIMIT)
    try:
        return x509.load_pem_x509_certificate(untrusted_pem).public_bytes(Encoding.DER)
    except ValueError as error:
        raise _wrong(f"{path} is not a certificate in PEM", "name a certificate") from error


def _wrong(cause: str, remedy: str) -> FirmwareWrong:
    return FirmwareWrong("the firmware variables template was refused", cause=cause, remedy=remedy)
