# SPDX-License-Identifier: Apache-2.0
"""What the agent can tell a user that went wrong with one VM, and with its TPM, disks, networks and devices.

This module says nothing of updates and of the host (``agent.errors``).
"""

from __future__ import annotations

from agent.errors import AgentError
from documents.errors import Exit


class GuestTpmChanged(AgentError):
    """A VM would have started with another TPM than it had."""

    code = "AG040"
    exit = Exit.REFUSED
    explanation = (
        "A VM's TPM is known by its endorsement key from the first start on. Its state, in /var/lib/libvirt/swtpm, is "
        "gone or another's, and the VM was not started: what the guest sealed would not open, and whoever knows the "
        "old key would be misled. Put the state back. If it is lost, remove vtpm.json from the VM's folder: the VM "
        "then gets a new TPM, and the host's evidence says so."
    )


class GuestTpmFailed(AgentError):
    """A VM's TPM could not be made or identified."""

    code = "AG041"
    explanation = (
        "Before a start vmgate makes a VM's TPM where there is none (swtpm_setup), and reads the certificate of its "
        "endorsement key from a copy of its state (swtpm), both as the account tss. Look whether the packages swtpm "
        "and swtpm-tools are installed, /etc/swtpm_setup.conf names a local CA, and the state opens with the VM's key."
    )


class LocalRefused(AgentError):
    """The signed set of what was made on this host is not what it signed last."""

    code = "AG120"
    exit = Exit.REFUSED
    explanation = (
        "All images and VMs that were made on this host are named in /var/lib/vmgate/tpm/local-set.json, signed by its "
        "TPM. That file was changed, is another host's, is older than the last one, or was signed before the TPM was "
        "cleared. No local VM starts, and nothing more is signed. Put the file back; if it is lost, remove what is "
        "there, then import the images again and make the VMs again, each with its old uuid, which opens its old key."
    )


class LocalTaken(AgentError):
    """A local VM or image would take what is a publisher's, or another's of this host."""

    code = "AG121"
    exit = Exit.POLICY
    explanation = (
        "A VM that is made on a host can have no name, UUID or image of a VM that a release defines, and none of "
        "another local VM. Nothing was signed. Where a release comes later with a name or UUID that a local VM has, "
        "the release's VM has it, and the local VM does not start."
    )


class LocalUnfit(AgentError):
    """What was to be made on this host cannot be."""

    code = "AG122"
    exit = Exit.USAGE
    explanation = (
        "A local VM has the guardians tpm and recovery at most, its name and uuid never change, and its disks are "
        "images of this host (`vmgate image list`). An image is a regular file of whole sectors of 512 bytes that "
        "belongs to whoever imports it. Nothing was signed."
    )


class DiskNotAlone(AgentError):
    """The file of a VM's disk is not the VM's alone."""

    code = "AG160"
    exit = Exit.REFUSED
    explanation = (
        "What a VM writes lies in files of its own, in a folder that root alone can change. This one is a link, has a "
        "second name, or can be read or written by others, so another VM or a user of the host may have reached it. "
        "Nothing was changed."
    )


class RecordRefused(AgentError):
    """A disk is not as its state record says, or has none."""

    code = "AG161"
    exit = Exit.REFUSED
    explanation = (
        "A disk that a VM keeps is bound to this host by a signed state record. The record is gone, older, or of "
        "another disk; or the disk was changed since the VM stopped; or, for a sealed disk, the host or QEMU was cut "
        "off while the VM ran. See `vmgate vm why`. If you know why, `vmgate vm accept NAME` takes the disk as it is "
        "now; `vmgate vm delete NAME` gives up all that the VM wrote. See docs/guide/disks.md."
    )


class VmRuns(AgentError):
    """What was asked for needs a VM that is off."""

    code = "AG162"
    exit = Exit.NOT_READY
    explanation = "The disks of a VM that runs are QEMU's. Stop the VM first: `vmgate vm stop NAME`."


class NetworkWrong(AgentError):
    """What was asked for is no network that a host may offer."""

    code = "AG150"
    exit = Exit.USAGE
    explanation = (
        "A network has a name of at most 32 small letters, digits and hyphens, and a kind. `nat` needs a private "
        "subnet (RFC 1918, /16 to /29) that no other network of this host has; VMs on it reach what the host reaches, "
        "and not each other. `peers` has none: VMs on it reach each other and nothing else. Nothing was changed."
    )


class NetworkThere(AgentError):
    """There is a network of that name already."""

    code = "AG151"
    exit = Exit.POLICY
    explanation = "A network is not changed under the VMs that use it: delete it and make it anew. Nothing was changed."


class NetworkInUse(AgentError):
    """A network has ports."""

    code = "AG152"
    exit = Exit.NOT_READY
    explanation = (
        "A network goes only when nothing is plugged into it: stop the VMs that are on it. `vmgate net show NAME` "
        "lists its ports; one that is not called vnet and a number is no VM's. Nothing was changed."
    )


class DeviceWrong(AgentError):
    """What was asked for is no device that a VM may get."""

    code = "AG153"
    exit = Exit.USAGE
    explanation = (
        "A device has a name of at most 32 small letters, digits and hyphens, and is one of: an image file, by its "
        "path; a USB device, by vendor and product and, if it has one, its serial number; a PCI function, by its "
        "address. The same device cannot be there under two names. Nothing was changed."
    )


class DeviceTaken(AgentError):
    """A device is another VM's, or somebody has it."""

    code = "AG154"
    exit = Exit.POLICY
    explanation = (
        "A device belongs to one VM at a time. Before another gets it, or it is removed, it is ejected: "
        "`vmgate device eject NAME`. Nothing was changed."
    )


class DeviceInUse(AgentError):
    """The VM that has a device runs."""

    code = "AG155"
    exit = Exit.NOT_READY
    explanation = (
        "Devices and media are plugged in and taken out while their VM is off: what a VM has is judged at its start. "
        "Stop the VM first. Nothing was changed."
    )


class LibvirtLate(AgentError):
    """libvirt took too long for a VM's key."""

    code = "AG140"
    exit = Exit.TIMED_OUT
    explanation = (
        "While a VM starts, libvirt waits for the gate, and the gate gives libvirt the VM's key. libvirt did not take "
        "it in time: all its workers may be waiting, or it hangs. The VM stays off and its key is dropped. Raise "
        "prio_workers in libvirtd.conf where many starts and many questions come at once."
    )
