# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a VM that is exported, imported, checkpointed or leased."""

from __future__ import annotations

from agent.errors import AgentError
from documents.errors import Exit


class SetRefused(AgentError):
    """A set is not what a host that is believed has signed."""

    code = "AG200"
    exit = Exit.REFUSED
    explanation = (
        "An exported VM is one file, encrypted for one recovery key and signed by the TPM of the host that it comes "
        "from. This one was changed or cut off, is for another key, or was signed by another host than `--signer` "
        "names, or under another publisher's policy. Nothing was imported. Export it again, and carry the signer's "
        "digest, which `vmgate vm export` prints, over a way that you trust."
    )


class SetStale(AgentError):
    """A set is older than what this host knows of the VM."""

    code = "AG201"
    exit = Exit.REFUSED
    explanation = (
        "Each set of a VM has a number that grows, and this host knows a later state of that VM: it imported that "
        "set or a newer one before, or the VM ran here since. To take it would put the VM's disks and TPM back in "
        "time. Nothing was imported. Take the newest set."
    )


class SetTaken(AgentError):
    """The name or UUID of a VM that is to be imported is another's here, or the VM keeps something here."""

    code = "AG202"
    exit = Exit.POLICY
    explanation = (
        "An imported VM keeps its name and UUID, which its TPM and its key go by. Another VM of this host has one of "
        "them, or the VM itself has a key here already. Nothing was imported. `vmgate vm delete NAME` gives up what "
        "it keeps."
    )


class SetUnfit(AgentError):
    """A VM cannot leave its host, or not come to this one."""

    code = "AG203"
    exit = Exit.POLICY
    explanation = (
        "A VM's key leaves a host only if its signed definition names the guardian `recovery`, and its disks only as "
        "they were left by a clean stop. On the host that it comes to, an active release defines the same VM with "
        "the same disks, or the signed policy has `AllowLocal` and the VM was made on a host. Nothing was changed."
    )


class SetDisturbed(AgentError):
    """A VM was started while it was exported or checkpointed."""

    code = "AG204"
    exit = Exit.FAILED
    explanation = (
        "Somebody tried to start the VM, or changed its files, while they were copied; a copy of half of the old and "
        "half of the new state is worth nothing and was removed. Try again while nobody starts it."
    )


class CheckpointRefused(AgentError):
    """A checkpoint is not the one that was made."""

    code = "AG205"
    exit = Exit.REFUSED
    explanation = (
        "A checkpoint is a list that is signed with a key of the VM's and whose digest is in the audit trail, and the "
        "files that it names. This one was changed, is another VM's or another number's, or its VM has other disks by "
        "now. Nothing was changed. Take another checkpoint, or put the files back."
    )


class LeaseWrong(AgentError):
    """The terms of a lease are none."""

    code = "AG206"
    exit = Exit.USAGE
    explanation = (
        "A lease gives a VM so many seconds of the TPM's powered-on time, so many boots, and a last day, each within "
        "bounds. Nothing was changed: the lease before counts."
    )
