# SPDX-License-Identifier: Apache-2.0
"""Events of the audit trail about VMs, what they keep, and what they are plugged into. A part of ``audit_events``.

This module records nothing.
"""

from __future__ import annotations

from documents.audit_event import ERROR, AuditEvent

VM_EVENTS = (
    AuditEvent(
        name="local-sign",
        rows=("FMT_MOF_EXT.1",),
        when="an image or a VM of this host is signed by its local authority; refused where policy or a publisher's "
        "VM forbids it",
        details=(
            ("started", ("act", "fsverity", "number")),
            ("done", ("act", "fsverity", "number")),
            ("failed", ("act", "cause", "code", "fsverity", "number")),
            ("refused", ("act", "cause", "code")),
        ),
    ),
    AuditEvent(
        name="vm-start",
        rows=("FMT_MOF_EXT.1", "FPT_ML_EXT.1", "FPT_GVI_EXT.1"),
        when="a VM is to start; refused names the check that said no",
        details=(
            ("started", ("definition", "level", "release", "verdict")),
            ("done", ()),
            ("failed", ERROR),
            ("refused", ("check",)),
        ),
    ),
    AuditEvent(name="vm-stop", rows=("FMT_MOF_EXT.1",), when="a VM stopped", details=(("done", ()),)),
    AuditEvent(
        name="vm-reconnect",
        rows=("FMT_MOF_EXT.1",),
        when="libvirt was started again and took a running VM back",
        details=(("done", ()),),
    ),
    AuditEvent(
        name="vm-restart",
        rows=("FMT_MOF_EXT.1",),
        when="the agent restarts a VM because of an update",
        details=(("started", ("release",)), ("done", ("release",)), ("failed", ERROR)),
    ),
    AuditEvent(
        name="vm-suspend",
        rows=("FAU_ARP.1", "FPT_GVI_EXT.1"),
        when="the agent suspends a VM because the host's boot counts for nothing any more",
        details=(("done", ("cause",)), ("failed", ("cause",))),
    ),
    AuditEvent(
        name="vm-drift",
        rows=("FAU_ARP.1", "FPT_GVI_EXT.1"),
        when="a VM that runs is not what it was let start as: a device, a setting or the monitor was used past vmgate",
        details=(
            ("started", ("answer", "found")),
            ("done", ("answer", "found")),
            ("failed", ("answer", "cause", "found")),
        ),
    ),
    AuditEvent(
        name="vm-ungated",
        rows=("FAU_ARP.1", "FPT_GVI_EXT.1"),
        when="a domain of libvirt's runs and nobody let it start",
        details=(
            ("started", ("answer", "found")),
            ("done", ("answer", "found")),
            ("failed", ("answer", "cause", "found")),
        ),
    ),
    AuditEvent(
        name="vm-revoke",
        rows=("FAU_ARP.1", "FMT_MOF_EXT.1"),
        when="a VM that runs was taken back: its user is told (started), and what policy says is done",
        details=(
            ("started", ("answer", "cause", "seconds")),
            ("done", ("answer", "cause", "seconds")),
            ("failed", ("answer", "cause", "seconds", "why")),
        ),
    ),
    AuditEvent(
        name="vm-by-hand",
        rows=("FAU_ARP.1",),
        when="a QEMU or another user of KVM runs that is not of the system's libvirt; it is told and not ended",
        details=(("done", ("found",)),),
    ),
    AuditEvent(
        name="network-create",
        rows=("FDP_VNC_EXT.1", "FDP_VMS_EXT.1", "FMT_MOF_EXT.1"),
        when="an administrator makes a network of VMs",
        details=(
            ("started", ("dhcp", "kind", "subnet")),
            ("done", ("dhcp", "kind", "subnet")),
            ("failed", ("cause", "code", "dhcp", "kind", "subnet")),
        ),
    ),
    AuditEvent(
        name="network-delete",
        rows=("FDP_VNC_EXT.1", "FDP_VMS_EXT.1", "FMT_MOF_EXT.1"),
        when="an administrator deletes a network of VMs",
        details=(("started", ("kind",)), ("done", ("kind",)), ("failed", ERROR)),
    ),
    *(
        AuditEvent(
            name=f"device-{act}",
            rows=rows,
            when=when,
            details=tuple(
                (outcome, tuple(sorted((*details, *(ERROR if outcome == "failed" else ())))))
                for outcome in ("started", "done", "failed")
            ),
        )
        for act, rows, when, details in (
            ("add", ("FDP_PPR_EXT.1", "FMT_MOF_EXT.1"), "a device or medium is named", ("kind", "what")),
            ("remove", ("FDP_PPR_EXT.1", "FMT_MOF_EXT.1"), "a device or medium is forgotten", ("kind", "what")),
            ("grant", ("FDP_PPR_EXT.1", "FPT_RDM_EXT.1"), "a device or medium is given to a VM", ("kind", "vm")),
            ("eject", ("FDP_PPR_EXT.1", "FPT_RDM_EXT.1"), "a device or medium is taken back", ("kind", "vm")),
        )
    ),
    AuditEvent(
        name="device-attach",
        rows=("FDP_PPR_EXT.1", "FPT_RDM_EXT.1"),
        when="a VM that starts gets its devices and media; a refused start names the device (vm-start)",
        details=(("started", ("devices",)),),
    ),
    AuditEvent(
        name="network-attach",
        rows=("FDP_VNC_EXT.1",),
        when="a VM that starts is plugged into its networks; a refused start names the network (vm-start)",
        details=(("started", ("networks",)),),
    ),
    AuditEvent(
        name="vm-introspect",
        rows=("FPT_INT_EXT.1",),
        when="a VM's memory is looked at",
        details=(
            ("started", ("view", "vm")),
            ("done", ("found", "view", "vm")),
            ("failed", ("view", "vm", "why")),
            ("refused", ("view", "vm", "why")),
        ),
    ),
    AuditEvent(
        name="disk-state",
        rows=("FPT_GVI_EXT.1",),
        when="a disk that a VM keeps is opened for its start (started), and signed at its stop (done), or could not be",
        details=(
            ("started", ("class", "disk", "number", "uuid")),
            ("done", ("class", "disk", "number", "uuid")),
            ("failed", ("cause", "code", "disk")),
        ),
    ),
    AuditEvent(
        name="disk-crash",
        rows=("FPT_GVI_EXT.1",),
        when="a VM starts with a persistent disk that was not closed: the host or QEMU was cut off while it ran",
        details=(("done", ("class", "disk", "number", "uuid")),),
    ),
    AuditEvent(
        name="disk-accept",
        rows=("FMT_MOF_EXT.1", "FPT_GVI_EXT.1"),
        when="an administrator takes a disk as it is now, whatever its record says",
        details=(
            ("started", ("class", "disk", "found", "number", "uuid", "why")),
            ("done", ("class", "disk", "found", "number", "uuid", "why")),
        ),
    ),
    AuditEvent(
        name="vm-delete",
        rows=("FMT_MOF_EXT.1",),
        when="a VM's key, and with it all that it keeps on this host, is given up",
        details=(("started", ("uuid",)), ("done", ("uuid",)), ("failed", ("cause", "code", "uuid"))),
    ),
    AuditEvent(
        name="vm-export",
        rows=("FMT_MOF_EXT.1", "FDP_VMS_EXT.1"),
        when="a VM's key, disks and TPM are written to a file, encrypted for one recipient",
        details=(
            ("started", ("number", "recipient", "set", "uuid")),
            ("done", ("endorsement", "number", "recipient", "set", "uuid")),
            ("failed", ("cause", "code", "number", "recipient", "set", "uuid")),
        ),
    ),
    AuditEvent(
        name="vm-import",
        rows=("FMT_MOF_EXT.1", "FDP_VMS_EXT.1", "FPT_GVI_EXT.1"),
        when="a VM is taken from a file of another host, or of this one; refused where that is not what was signed, is "
        "older than what is known, or has a name or UUID that is taken",
        details=(
            ("started", ("endorsement", "number", "set", "signer", "uuid")),
            ("done", ("endorsement", "number", "set", "signer", "uuid")),
            ("failed", ("cause", "code", "number", "set", "uuid")),
            ("refused", ("cause", "code")),
        ),
    ),
    AuditEvent(
        name="disk-import",
        rows=("FMT_MOF_EXT.1", "FPT_GVI_EXT.1"),
        when="a disk that a VM keeps comes with an import",
        details=(("done", ("class", "disk", "number", "uuid")),),
    ),
    AuditEvent(
        name="vm-checkpoint",
        rows=("FMT_MOF_EXT.1",),
        when="a checkpoint of a VM is made",
        details=(
            ("started", ("number", "uuid")),
            ("done", ("number", "set", "uuid")),
            ("failed", ("cause", "code", "number", "uuid")),
        ),
    ),
    AuditEvent(
        name="vm-checkpoint-remove",
        rows=("FMT_MOF_EXT.1",),
        when="a checkpoint of a VM is given up",
        details=(
            ("started", ("number", "uuid")),
            ("done", ("number", "uuid")),
            ("failed", ("cause", "code", "number", "uuid")),
        ),
    ),
    AuditEvent(
        name="vm-restore",
        rows=("FMT_MOF_EXT.1", "FPT_GVI_EXT.1"),
        when="a VM goes back to a checkpoint; refused where that is not the one that was made",
        details=(
            ("started", ("number", "uuid")),
            ("done", ("number", "set", "uuid")),
            ("failed", ("cause", "code", "number", "uuid")),
            ("refused", ("cause", "code", "number", "uuid")),
        ),
    ),
    AuditEvent(
        name="disk-restore",
        rows=("FMT_MOF_EXT.1", "FPT_GVI_EXT.1"),
        when="a disk that a VM keeps is to be as it was at a checkpoint; older records count no more",
        details=(("started", ("class", "disk", "number", "uuid")),),
    ),
    AuditEvent(
        name="vm-lease",
        rows=("FMT_MOF_EXT.1",),
        when="a VM may run from now on for so much powered-on time, in so many boots, until a day; the newest counts",
        details=(("done", ("boots", "clock", "resets", "seconds", "until", "uuid")),),
    ),
)
