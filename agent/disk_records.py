# SPDX-License-Identifier: Apache-2.0
"""State records on the disk of the host: signed when written, verified when read. Decides nothing about a disk.

The signature is an HMAC under a key that follows from the VM's own key, which the host's TPM opens in states that the
publisher signed, and nowhere else. So a record of another VM is none here, and who deletes a VM's key deletes the worth
of its records. That a record is the newest one is the matter of ``agent.disk_ledger``.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path

from agent.vm_errors import RecordRefused
from content import durable
from content.errors import Missing
from documents.state_record import StateRecord

SUFFIX = ".json"


def derive(secret: str, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose out of a VM's key (RFC 5869, 2.3: the first block of HKDF-Expand).

    Args:
        secret: the VM's key, hexadecimal, of 32 random bytes, so that nothing has to be extracted first.
        purpose: no two purposes may be the same.
    """
    return hmac.digest(bytes.fromhex(secret), purpose.encode() + b"\x01", "sha256")


def record_key(secret: str) -> bytes:
    """The key that signs a VM's state records."""
    return derive(secret, "vmgate state records")


def passphrase(secret: str, disk: str) -> bytes:
    """What opens a persistent disk of a VM: text, as LUKS in QEMU wants it."""
    return derive(secret, f"vmgate disk {disk}").hex().encode()


def record_path(disk: Path) -> Path:
    """Where the record of a disk lies: beside it."""
    return disk.with_suffix(SUFFIX)


def read_record(path: Path, key: bytes) -> StateRecord | None:
    """A record that this host wrote with this VM's key; None where there is none.

    Raises:
        RecordRefused: it was not written with that key.
        DocumentError, ContentError: it is none, or cannot be read.
    """
    try:
        record = StateRecord.parse(durable.read_file(path, StateRecord.LIMIT))
    except Missing:
        return None
    if not hmac.compare_digest(hmac.digest(key, record.message(), "sha256"), record.mac):
        raise RecordRefused(
            "the state record was refused",
            cause=f"{path} was not written by this host for this VM",
            remedy="put back the record of the last stop, or see `vmgate vm why`",
        )
    return record


def write_record(path: Path, record: StateRecord, key: bytes) -> None:
    """Sign and write a record in the place of the one before.

    Raises:
        ContentError: it could not be written; the one before stays.
    """
    signed = replace(record, mac=hmac.digest(key, record.message(), "sha256"))
    durable.write_file(path, signed.encode())
