# SPDX-License-Identifier: Apache-2.0
"""What PCR 7 will be after a change of Secure Boot that a host image announces, computed ahead from this boot's log.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4.8 (PCR 7) and 10.4.1 (UEFI_VARIABLE_DATA); UEFI 2.10,
32.4.1. The events of now are replayed with those of KEK, PK, db, dbx and of the one authority replaced; all others
(SecureBoot, the separator, what firmware adds of its own) stay as this machine measures them. Pure; it seals nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from documents.host_image import HostImage, SecureBootState
from measure.boot_events import EV_EFI_VARIABLE_AUTHORITY, EV_EFI_VARIABLE_DRIVER_CONFIG
from measure.bootlog import EV_NO_ACTION, BootEvent, parse_boot_log
from measure.errors import Pcr7Unforeseen
from measure.pcr import SECURE_BOOT_PCR, extend, reset_value

_HEAD: Final = 32
"""Bytes of a UEFI_VARIABLE_DATA before its name: GUID and two lengths."""

_LONGEST_NAME: Final = 64


def predict(untrusted_boot_log: bytes, present: bytes, state: SecureBootState) -> str:
    """PCR 7 (SHA-256 bank, hexadecimal) of the next boot with another state of Secure Boot.

    Args:
        untrusted_boot_log: of this boot.
        present: PCR 7 now, from the TPM.
        state: of then.

    Raises:
        LogRefused: the log is malformed.
        Pcr7Unforeseen: it does not explain PCR 7 of now, or not each variable and one authority once.
    """
    log = parse_boot_log(untrusted_boot_log)
    events = [
        event
        for event in log.events
        if event.pcr == SECURE_BOOT_PCR and event.type != EV_NO_ACTION and "sha256" in event.digests
    ]
    if _replayed(event.digests["sha256"] for event in events) != present:
        raise _unforeseen("this boot's log does not explain PCR 7")
    new = {name: event for name, _, event in state.variables}
    replaced: list[str] = []
    digests: list[bytes] = []
    for event in events:
        digest = event.digests["sha256"]
        # An event's type is covered by no digest; its data is, and says which variable it is.
        name = _variable(event) if hashlib.sha256(event.data).digest() == digest else ""
        if event.type == EV_EFI_VARIABLE_DRIVER_CONFIG and name in new:
            digest = bytes.fromhex(new[name])
            replaced.append(name)
        elif event.type == EV_EFI_VARIABLE_AUTHORITY and name == "db":
            digest = bytes.fromhex(state.authority_event)
            replaced.append("authority")
        digests.append(digest)
    if sorted(replaced) != sorted([*new, "authority"]):
        raise _unforeseen(f"this boot's log measures {', '.join(replaced) or 'none'} of KEK, PK, db, dbx and authority")
    return _replayed(digests).hex()


def foreseen(
    untrusted_boot_log: bytes, present: bytes, image: HostImage, now: HostImage | None
) -> tuple[tuple[tuple[int, str], ...], ...]:
    """The values of PCR 7 with which a host image may boot next. From a state that it names only later ones follow.

    Args:
        untrusted_boot_log: of this boot.
        present: PCR 7 now, from the TPM.
        image: that is to boot, or that has booted.
        now: that has booted; None where nothing is known of it.

    Raises:
        Pcr7Unforeseen: its Secure Boot is another than now, and it does not say what will be measured; or see
            ``predict``.
        LogRefused: the log is malformed.
    """
    if not image.secure_boot:
        if now is None or (now.variables, now.authority) == (image.variables, image.authority):
            return ()
        raise _unforeseen("the host image of the release changes Secure Boot and does not say what will be measured")
    values = [predict(untrusted_boot_log, present, state) for state in image.secure_boot]
    if present.hex() in values:
        values = values[values.index(present.hex()) + 1 :]
    return tuple(((SECURE_BOOT_PCR, value),) for value in dict.fromkeys(values) if value != present.hex())


def _variable(event: BootEvent) -> str:
    """The name in a UEFI_VARIABLE_DATA; empty where there is none."""
    characters = int.from_bytes(event.data[16:24], "little")
    name = event.data[_HEAD : _HEAD + 2 * characters] if characters <= _LONGEST_NAME else b""
    return name.decode("utf-16-le", errors="replace")


def _replayed(digests: Iterable[bytes]) -> bytes:
    value = reset_value("sha256", SECURE_BOOT_PCR)
    for digest in digests:
        value = extend("sha256", value, digest)
    return value


def _unforeseen(cause: str) -> Pcr7Unforeseen:
    return Pcr7Unforeseen(
        "the host's key was not sealed ahead",
        cause=cause,
        remedy="get a release that says what firmware will measure, or change Secure Boot after the next release",
    )
