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
from urllib.parse import urlsplit

from agent import audit_settings, site_settings, update_settings
from agent.audit_settings import AuditSettings
from agent.errors import NotReady, SettingsWrong
from agent.site_settings import SiteSettings
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
        host: name of this host in its fleet, whose assignment it follows; empty for one that follows none.
        tpm: TPM2 TCTI configuration, such as ``device:/dev/tpmrm0``.
        libvirt: libvirt connection URI.
        hook: where libvirt looks for its QEMU hook.
        accelerator: ``kvm``, or ``emulation`` where signed policy has AllowEmulation.
        mirrors: base URLs of others that have the repository's content, the most wanted first.
        proxy: URL of an HTTP proxy; empty for what the environment says.
        ca_file: certificates in PEM, which alone are believed of servers; empty for the public ones.
        bandwidth: most bytes per second to fetch, at least 10,000; 0 for no limit.
        update: when this host may update itself.
        audit: where the audit trail is off-loaded to.
        site: the site's own repository, on top of this one.
    """

    repository: str = ""
    channels: tuple[str, ...] = ("platform",)
    host: str = ""
    tpm: str = "device:/dev/tpmrm0"
    libvirt: str = "qemu:///system"
    hook: str = "/etc/libvirt/hooks/qemu"
    accelerator: str = "kvm"
    mirrors: tuple[str, ...] = ()
    proxy: str = ""
    ca_file: str = ""
    bandwidth: int = 0
    update: UpdateSettings = field(default=UpdateSettings())
    audit: AuditSettings = field(default=AuditSettings())
    site: SiteSettings = field(default=SiteSettings())


_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]/_~%-]{1,300}")
_FORMS = {
    "repository": re.compile(f"({_URL.pattern})?"),
    "host": re.compile(rf"({NAME.pattern})?"),
    "tpm": re.compile(r"[a-z]+(:[A-Za-z0-9/=.,:_-]{0,200})?"),
    "libvirt": re.compile(r"qemu:///[a-z]{1,20}"),
    "hook": re.compile(r"(/[A-Za-z0-9._-]+)+"),
    "accelerator": re.compile(r"kvm|emulation"),
    "proxy": re.compile(r"(http://[A-Za-z0-9.:\[\]_-]{1,300}/?)?"),
    "ca_file": re.compile(r"((/[A-Za-z0-9._-]+)+)?"),
}
_ADDRESSES = frozenset({"repository", "proxy"})
MAX_MIRRORS = 8
BANDWIDTHS = range(10_000, 10**12 + 1)
"""Bytes per second. With less, servers would take this host for one that stopped reading."""


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
        elif key == "audit":
            values[key] = audit_settings.read(value, partial(_wrong, where))
        elif key == "site":
            values[key] = site_settings.read(value, _is_address, partial(_wrong, where))
        elif key == "mirrors":
            values[key] = _mirrors(value, where)
        elif _is_in_form(key, value):
            values[key] = value
        else:
            raise _wrong(where, f"the value of {key!r} is not in its form")
    settings = Settings(**values)  # type: ignore[arg-type]  # every key was checked above
    shared = sorted(set(settings.channels) & set(settings.site.channels))
    if shared:
        raise _wrong(where, f"the channel {shared[0]!r} is of both channels and site.channels: whose is it?")
    return settings


def _is_in_form(key: str, untrusted: object) -> bool:
    if key == "bandwidth":
        return type(untrusted) is int and (untrusted == 0 or untrusted in BANDWIDTHS)  # a truth value is an int too
    if not isinstance(untrusted, str) or not _FORMS[key].fullmatch(untrusted):
        return False
    return untrusted == "" or key not in _ADDRESSES or _names_a_host(untrusted)


def _is_address(text: str) -> bool:
    return bool(_URL.fullmatch(text)) and _names_a_host(text)


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets or port are wrong
        return False


def _mirrors(untrusted: object, where: str) -> tuple[str, ...]:
    if not isinstance(untrusted, list) or len(untrusted) > MAX_MIRRORS:
        raise _wrong(where, f"mirrors is not a list of at most {MAX_MIRRORS} addresses")
    for url in untrusted:
        if not isinstance(url, str) or not _is_address(url):
            raise _wrong(where, "mirrors has an item that is not an address")
    if len(set(untrusted)) != len(untrusted):
        raise _wrong(where, "mirrors has an address twice")
    return tuple(untrusted)


def _channels(untrusted: object, where: str) -> tuple[str, ...]:
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= 16:
        raise _wrong(where, "channels is not a list of 1 to 16 names")
    for name in untrusted:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _wrong(where, "channels has an item that is not a name")
    if len(set(untrusted)) != len(untrusted):
        raise _wrong(where, "channels has a name twice: they must be distinct")
    return tuple(sorted(untrusted))


def _wrong(where: str, cause: str) -> SettingsWrong:
    return SettingsWrong(
        f"{where} was not read", cause=cause, remedy="correct it, `vmgate explain AG017` lists the keys"
    )
