# SPDX-License-Identifier: Apache-2.0
"""Where everything of a host lies, below one root. This module touches no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostPaths:
    """The paths of one host.

    Attributes:
        root: ``/`` on a real host, any folder for a staged image or a test.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Configuration."""
        return self.root / "etc/vmgate/vmgate.toml"

    @property
    def roles(self) -> Path:
        """Who besides root has which role."""
        return self.root / "etc/vmgate/roles.toml"

    @property
    def banner(self) -> Path:
        """What is shown before interactive management. State, so that ``/etc`` can be read-only."""
        return self.state / "banner"

    @property
    def anchor(self) -> Path:
        """The trust anchor: TUF root metadata as given to ``init``. State, so that ``/etc`` can be read-only."""
        return self.state / "root.json"

    @property
    def retiring(self) -> Path:
        """The trust anchor of a host that is being handed back: there from the first step of that to the last."""
        return self.state / "root.json.retiring"

    @property
    def state(self) -> Path:
        """All durable state."""
        return self.root / "var/lib/vmgate"

    @property
    def tuf(self) -> Path:
        """Trusted TUF metadata."""
        return self.state / "tuf"

    @property
    def store(self) -> Path:
        """Content store."""
        return self.state / "store"

    @property
    def audit(self) -> Path:
        """Audit trail."""
        return self.state / "audit"

    @property
    def audit_sent(self) -> Path:
        """How far the audit trail was off-loaded."""
        return self.state / "audit-sent"

    @property
    def sealed_key(self) -> Path:
        """The host's sealed key-encryption key."""
        return self.state / "tpm/host-key.json"

    @property
    def recovery_key(self) -> Path:
        """The public half of the recovery key."""
        return self.state / "tpm/recovery-key.json"

    @property
    def audit_key(self) -> Path:
        """The key that signs heads of the audit trail."""
        return self.state / "tpm/audit-key.json"

    @property
    def membership(self) -> Path:
        """The fleet that this host belongs to, and the key for it."""
        return self.state / "tpm/fleet.json"

    def fleet_ca(self, digest: str) -> Path:
        """Whom this host believes to be its fleet; by digest, so that those of before stay until it joined."""
        return self.state / f"tpm/fleet-ca-{digest[:16]}.pem"

    @property
    def ak(self) -> Path:
        """Public area of the attestation key, TPMT_PUBLIC."""
        return self.state / "tpm/ak.pub"

    @property
    def baseline(self) -> Path:
        """What the administrator approved of what is local to this host, signed."""
        return self.state / "tpm/baseline.json"

    @property
    def local_set(self) -> Path:
        """The images and VMs that were made on this host, signed. It holds the VMs' salts: for root alone."""
        return self.state / "tpm/local-set.json"

    @property
    def vm_defaults(self) -> Path:
        """What a new VM of this host has where nobody says otherwise."""
        return self.root / "etc/vmgate/vm-defaults.toml"

    @property
    def last_boot(self) -> Path:
        """Kernel and TPM of the boot before, for the next kernel."""
        return self.state / "tpm/boot.json"

    @property
    def boot(self) -> Path:
        """Kernel and TPM of this boot; goes with it."""
        return self.run / "boot.json"

    @property
    def lock(self) -> Path:
        """Held by whoever writes the state."""
        return self.state / "lock"

    @property
    def wave_place(self) -> Path:
        """This host's place in the waves of releases."""
        return self.state / "wave-place"

    @property
    def update_pause(self) -> Path:
        """There while an administrator paused updates."""
        return self.state / "update-pause"

    @property
    def update_contact(self) -> Path:
        """When updates were looked up last."""
        return self.state / "update-contact"

    @property
    def networks(self) -> Path:
        """The networks that this host offers to VMs."""
        return self.state / "networks.json"

    @property
    def devices(self) -> Path:
        """The devices and media of this host that VMs may get."""
        return self.state / "devices.json"

    @property
    def media(self) -> Path:
        """Content store of media."""
        return self.state / "media"

    @property
    def update_trial(self) -> Path:
        """What a generation that is not confirmed yet has to show."""
        return self.state / "update-trial"

    @property
    def state_form(self) -> Path:
        """The form that the state is in."""
        return self.state / "state-form"

    @property
    def hooks(self) -> Path:
        """Folders of programs that run around an unattended update."""
        return self.root / "etc/vmgate/hooks"

    @property
    def run(self) -> Path:
        """What does not outlive a boot."""
        return self.root / "run/vmgate"

    @property
    def socket(self) -> Path:
        """The agent's socket."""
        return self.run / "agent.sock"

    @property
    def porter(self) -> Path:
        """The socket of the process outside of the agent's box."""
        return self.run / "porter.sock"

    @property
    def measurements(self) -> Path:
        """Measurement logs, one a boot."""
        return self.run / "measurements"

    @property
    def counter_raised(self) -> Path:
        """There from before the TPM's counter rises until that was logged."""
        return self.run / "counter-raised"

    @property
    def running(self) -> Path:
        """What each running VM was started from."""
        return self.run / "running"

    @property
    def launched(self) -> Path:
        """The domain that each running VM was let start as."""
        return self.run / "launched"

    @property
    def revoked(self) -> Path:
        """Since when each running VM that was taken back was known to be."""
        return self.run / "revoked"

    @property
    def vmm(self) -> Path:
        """Where VMM images are mounted."""
        return self.run / "vmm"

    @property
    def vms(self) -> Path:
        """The folders of VMs."""
        return self.state / "vms"

    def vm(self, name: str) -> Path:
        """The folder of one VM; ``name`` has been checked by its document."""
        return self.vms / name

    def generation_id(self, name: str) -> Path:
        """The generation id that the next start of a VM has."""
        return self.vm(name) / "generation-id"

    def wrapped_key(self, name: str) -> Path:
        """A VM's key, wrapped by the host's."""
        return self.vm(name) / "key-tpm.json"

    def recovery_copy(self, name: str) -> Path:
        """A VM's key, wrapped for the holder of the recovery key."""
        return self.vm(name) / "key-recovery.json"
