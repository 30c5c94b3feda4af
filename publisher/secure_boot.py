# SPDX-License-Identifier: Apache-2.0
"""What firmware will measure of Secure Boot: for a host image's own variables, and for changes that are announced.

Source: TCG PC Client Platform Firmware Profile 1.06, 10.4.1 (UEFI_VARIABLE_DATA); UEFI 2.10, 32.4.1 (signature lists).
An announcement names files with the data of variables as they will be, such as db with the CA of 2026 in it or the next
dbx. This module changes no variable, and takes the publisher's word for what hosts will get.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from content.durable import read_file
from documents.host_image import VARIABLES, SecureBootState
from publisher.errors import HostImageWrong
from publisher.firmware import GLOBAL, IMAGE_SECURITY, read_certificate

DATA_LIMIT: Final = 1024**2
"""Bytes of a variable; dbx has some tens of thousands."""

_OWNER: Final = 16
"""Bytes of the GUID before a certificate in an EFI_SIGNATURE_DATA."""

_GUIDS: Final = {"KEK": GLOBAL, "PK": GLOBAL, "db": IMAGE_SECURITY, "dbx": IMAGE_SECURITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A change of Secure Boot that hosts of an image may make.

    Attributes:
        variables: files with the new data, by name; one that is not named stays as it is.
        authority: certificate (PEM) of db that then vouches for the kernel image; None for the one of before.
    """

    variables: Mapping[str, Path]
    authority: Path | None = None


def states(
    variables: Mapping[str, bytes], authority: bytes, announced: Iterable[Announcement], signatures: bytes
) -> tuple[SecureBootState, ...]:
    """The state of an image and, in their order, those announced; each goes on from the one before.

    Args:
        variables: data of each of ``VARIABLES``.
        authority: the EFI_SIGNATURE_DATA that vouches for the kernel image.
        announced: what is to come.
        signatures: of the kernel image, with the certificates (DER) that they bring along. Whether they verify is
            the caller's to find out.

    Raises:
        HostImageWrong: an announced authority has not signed the kernel image, or db will not hold it.
        FirmwareWrong: its certificate is none.
        ContentError: a file cannot be read.
    """
    data, found = dict(variables), [_state(variables, authority)]
    for change in announced:
        data |= {name: read_file(path, DATA_LIMIT) for name, path in change.variables.items()}
        if change.authority is not None:
            authority = _entry(data["db"], change.authority, signatures)
        elif authority not in data["db"]:
            raise _refused("the announced db does not hold what vouches for the kernel image", "name its `authority`")
        found.append(_state(data, authority))
    return tuple(dict.fromkeys(found))


def variable_data(name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA, as firmware measures a variable of Secure Boot."""
    head = uuid.UUID(_GUIDS[name]).bytes_le + struct.pack("<QQ", len(name), len(data))
    return head + name.encode("utf-16-le") + data


def _state(variables: Mapping[str, bytes], authority: bytes) -> SecureBootState:
    return SecureBootState(
        variables=tuple((n, _sha256(variables[n]), _sha256(variable_data(n, variables[n]))) for n in VARIABLES),
        authority=_sha256(authority),
        authority_event=_sha256(variable_data("db", authority)),
    )


def _entry(database: bytes, path: Path, signatures: bytes) -> bytes:
    """The EFI_SIGNATURE_DATA of a certificate in db."""
    certificate = read_certificate(path)
    if certificate not in signatures:
        raise _refused(f"{path} did not sign the kernel image", "sign it with both keys")
    at = database.find(certificate)
    if at < _OWNER:
        raise _refused(f"the announced db does not hold {path}", "name the data of db as hosts will have it")
    return database[at - _OWNER : at + len(certificate)]


def _refused(cause: str, remedy: str) -> HostImageWrong:
    return HostImageWrong("the host image was not described", cause=cause, remedy=remedy)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
