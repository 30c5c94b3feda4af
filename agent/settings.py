# SPDX-License-Identifier: Apache-2.0
"""The host's settings: ``vmgate.toml``, read strictly.

Settings say where things are, never what is trusted: that is signed. They are measured into the launch PCR. This
module does not write settings.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from agent import update_settings
from agent.errors import NotReady, SettingsWrong
from agent.update_settings import UpdateSettings
from content import durable
from content.errors import Missing
from documents.fields import NAME

MAX_BYTES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``vmgate.toml`` holds.

    Attributes:
        repository: base URL of the update repository.
        channels: channels that this host follows.
        tpm: TPM2 TCTI configuration, such as ``device:/dev/tpmrm0``.
        libvirt: libvirt connection URI.
        hook: where libvirt looks for its QEMU hook.
        accelerator: ``kvm``, or ``emulation`` where signed policy has AllowEmulation.
        update: when this host may update itself.
    """

    repository: str = ""
    channels: tuple[str, ...] = ("platform",)
    tpm: str = "device:/dev/tpmrm0"
    libvirt: str = "qemu:///system"
    hook: str = "/etc/libvirt/hooks/qemu"
    accelerator: str = "kvm"
    update: UpdateSettings = field(default=UpdateSettings())


_FORMS = {
    "repository": re.compile(r"(https?://[A-Za-z0-9.:\[\]/_~%-]{1,300})?"),
    "tpm": re.compile(r"[a-z]+(:[A-Za-z0-9/=.,:_-]{0,200})?"),
    "libvirt": re.compile(r"qemu:///[a-z]{1,20}"),
    "hook": re.compile(r"(/[A-Za-z0-9._-]+)+"),
    "accelerator": re.compile(r"kvm|emulation"),
}


def load(path: Path) -> Settings:
    """Read settings.

    Raises:
        NotReady: the file is not there: the host was not set up.
        SettingsWrong: not TOML, an unknown key, or a value that is not in its form.
    """
    try:
        untrusted = durable.read_file(path, MAX_BYTES)
    except Missing as error:
        raise NotReady(
            "this host is not set up", cause=f"there is no {path}", remedy="run `vmgate init --anchor FILE`"
        ) from error
    return parse(untrusted, str(path))


def parse(untrusted_bytes: bytes, where: str) -> Settings:
    """Read settings from TOML. ``where`` names the file in errors."""
    try:
        untrusted = tomllib.loads(untrusted_bytes.decode())
    except (ValueError, RecursionError) as error:
        raise _wrong(where, f"it is not TOML: {error}") from error
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(untrusted) - known)
    if unknown:
        raise _wrong(where, f"the key {unknown[0][:60]!r} is unknown")
    values: dict[str, object] = {}
    for key, value in untrusted.items():
        if key == "channels":
            values[key] = _channels(value, where)
        elif key == "update":
            values[key] = update_settings.read(value, partial(_wrong, where))
        elif isinstance(value, str) and _FORMS[key].fullmatch(value):
            values[key] = value
        else:
            raise _wrong(where, f"the value of {key!r} is not in its form")
    return Settings(**values)  # type: ignore[arg-type]  # every key was checked above


def _channels(untrusted: object, where: str) -> tuple[str, ...]:
    if (
        not isinstance(untrusted, list)
        or not 1 <= len(untrusted) <= 16
        or len(set(map(str, untrusted))) != len(untrusted)
    ):
        raise _wrong(where, "channels is not a list of distinct names")
    for name in untrusted:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _wrong(where, "channels has an item that is not a name")
    return tuple(sorted(untrusted))


def _wrong(where: str, cause: str) -> SettingsWrong:
    return SettingsWrong(
        f"{where} was not read", cause=cause, remedy="correct it, `vmgate explain AG017` lists the keys"
    )
