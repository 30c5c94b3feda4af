# SPDX-License-Identifier: Apache-2.0
"""Setting a host up, once: settings, hook, keys in the TPM, and last the trust anchor, whose presence says "done".

Each step can be repeated after a power cut. This module fetches no release and starts nothing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agent import settings as settings_file
from agent.audit import AuditTrail
from agent.errors import NotReady
from agent.paths import HostPaths
from agent.settings import Settings
from content import durable
from content.errors import Missing
from content.fsverity import digest_bytes
from keys.anchor import TrustAnchor
from measure.tpm import Tpm

MAX_HOOK = 100_000
DOMAINS = Path("etc/libvirt/qemu")
MAX_NAMED = 20


def hook_bytes() -> bytes:
    """The libvirt hook as this vmgate ships it."""
    return files("agent").joinpath("hook_script.py").read_bytes()


def renew_hook(path: Path, fsverity: str) -> bool:
    """Install the hook that this vmgate ships where a release asks for just that; returns whether it was written."""
    hook = hook_bytes()
    try:
        installed = durable.read_file(path, MAX_HOOK)
    except Missing:
        installed = b""
    if installed == hook or digest_bytes(hook) != fsverity:
        return False
    durable.write_file(path, hook, 0o755)
    return True


def prepare(paths: HostPaths, anchor: bytes, untrusted_settings: bytes | None) -> tuple[TrustAnchor, Settings]:
    """Check everything that can be checked before anything is written.

    Raises:
        NotReady: the host was set up already, or libvirt has a hook of somebody else.
        AnchorRefused: the anchor is not a TUF root that signs itself.
        SettingsWrong: the settings are not what vmgate reads.
    """
    if paths.anchor.exists():
        raise NotReady(
            "this host was not set up", cause="it is already; its trust anchor stands", remedy="see `vmgate status`"
        )
    if paths.retiring.exists():
        raise NotReady(
            "this host was not set up", cause="its retirement was cut off", remedy="`vmgate retire`, then `vmgate init`"
        )
    trust = TrustAnchor(anchor)
    settings = settings_file.parse(untrusted_settings or b"", "the given settings")
    hook = Path(settings.hook)
    try:
        installed = durable.read_file(hook, MAX_HOOK)
    except Missing:
        installed = hook_bytes()
    if installed != hook_bytes():
        raise NotReady(
            "this host was not set up",
            cause=f"{hook} is a hook of somebody else",
            remedy="move it to the folder qemu.d beside it, or remove it",
        )
    return trust, settings


def write(
    paths: HostPaths,
    anchor: TrustAnchor,
    settings: Settings,
    settings_bytes: bytes,
    tpm: Tpm,
    audit: AuditTrail,
) -> tuple[str, ...]:
    """Do it; returns what was done, for people."""
    audit.append("host-init", "started", "host", "command init", repository=anchor.identity)
    hook = Path(settings.hook)
    durable.make_directory(hook.parent, 0o755)
    write_new(paths.settings, settings_bytes, 0o644)
    write_new(hook, hook_bytes(), 0o755)
    ak = tpm.create_ak()
    durable.make_directory(paths.ak.parent)
    durable.write_file(paths.ak, ak, 0o644)
    durable.write_file(paths.anchor, anchor.root, 0o644)
    audit.append("host-init", "done", "host", "command init", repository=anchor.identity)
    kind = "a software TPM: assurance level L0, no rollback protection" if tpm.software() else "a TPM"
    return (
        f"trust anchor: repository sha256:{anchor.identity}, root version {anchor.version}",
        f"TPM: {kind}; attestation key in {paths.ak}",
        f"libvirt hook: {hook}, sha256:{digest_bytes(hook_bytes())}; libvirtd reads it when it starts next",
        f"libvirt domains that no release defines are refused from now on{_named(defined_domains(paths.root))}",
    )


def defined_domains(root: Path) -> tuple[str, ...]:
    """The VMs that libvirt keeps definitions of, by their files; libvirt itself need not run, and may be busy."""
    try:
        return tuple(sorted(path.stem for path in (root / DOMAINS).glob("*.xml")))
    except OSError:
        return ()


def _named(domains: tuple[str, ...]) -> str:
    if not domains:
        return ""
    more = f" and {len(domains) - MAX_NAMED} more" if len(domains) > MAX_NAMED else ""
    return f", those that run go on; here: {', '.join(domains[:MAX_NAMED])}{more}"


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file unless it holds just that: on a verified root it is there, and nothing can be written."""
    try:
        if durable.read_file(path, MAX_HOOK) == data:
            return
    except Missing:
        pass
    durable.write_file(path, data, mode)


def make_directories(paths: HostPaths) -> None:
    """Make the state folders. QEMU's user must be able to pass through to the store and to its VM's folder."""
    durable.make_directory(paths.settings.parent, 0o755)
    durable.make_directory(paths.state, 0o711)
    durable.make_directory(paths.store, 0o711)
    durable.make_directory(paths.run, 0o755)
