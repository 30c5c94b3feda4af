# SPDX-License-Identifier: Apache-2.0
"""Every event of the audit trail as data: when it is recorded, for which requirement, and with which details.

Requirements are those of the Protection Profile for Virtualization 1.1 and its client module, table of auditable events
(FAU_GEN.1). Every record has time, event, subject, actor and outcome besides. This module records nothing;
`docs/audit-events.md` is made from it, and a test compares it with what the source records.
"""

from __future__ import annotations

from documents.audit_event import ERROR, AuditEvent, UnrecordedEvent
from documents.vm_audit_events import VM_EVENTS

_UPDATE = (("started", ("source",)), ("done", ("releases",)), ("failed", ERROR), ("refused", ERROR))
_CHANNEL = ("FTP_ITC_EXT.1", "FAU_STG_EXT.1")

EVENTS = (
    AuditEvent(
        name="agent",
        rows=("FAU_GEN.1",),
        when="the agent, and with it the audit, starts and ends",
        details=(("started", ("version",)), ("done", ())),
    ),
    AuditEvent(
        name="host-init",
        rows=("FMT_MOF_EXT.1",),
        when="a host is set up for a repository",
        details=(("started", ("repository",)), ("done", ("repository",))),
    ),
    AuditEvent(
        name="host-retire",
        rows=("FMT_MOF_EXT.1",),
        when="a host is handed back: the keys of its VMs, then all that vmgate brought, but for this trail",
        details=(("started", ("vms",)), ("done", ("vms",)), ("failed", ("cause", "code", "vms"))),
    ),
    AuditEvent(
        name="fleet-join",
        rows=("FMT_MOF_EXT.1",),
        when="an administrator lets the host join a fleet",
        details=(("started", ("url",)), ("done", ("fleet", "host")), ("failed", ERROR)),
    ),
    AuditEvent(
        name="fleet-leave",
        rows=("FMT_MOF_EXT.1",),
        when="an administrator lets the host forget its fleet",
        details=(("done", ("fleet", "host")),),
    ),
    AuditEvent(
        name="host-resume",
        rows=("FPT_ML_EXT.1",),
        when="the host slept and woke; refused where its measurements count for nothing since",
        details=(("done", ("restarts",)), ("refused", ("cause",))),
    ),
    AuditEvent(
        name="platform-appraisal",
        rows=("FPT_ML_EXT.1",),
        when="what the host measured is judged at the agent's start",
        details=(("done", ("level", "verdict")), ("refused", ("level", "verdict"))),
    ),
    AuditEvent(
        name="baseline-approve",
        rows=("FMT_MOF_EXT.1",),
        when="an administrator approves what is local to the host",
        details=(
            ("started", ("baseline", "number")),
            ("done", ("baseline", "number")),
            ("failed", ("baseline", "cause", "number")),
        ),
    ),
    AuditEvent(
        name="update-apply",
        rows=("FPT_TUD_EXT.1", "FMT_MOF_EXT.1"),
        when="an administrator updates; refused where a signature, a version or a digest is wrong",
        details=_UPDATE,
    ),
    AuditEvent(
        name="update-unattended",
        rows=("FPT_TUD_EXT.1",),
        when="the host updates itself",
        details=_UPDATE,
    ),
    AuditEvent(
        name="update-import",
        rows=("FPT_TUD_EXT.1", "FMT_MOF_EXT.1"),
        when="an update comes from a bundle",
        details=_UPDATE,
    ),
    AuditEvent(
        name="update-break-glass",
        rows=("FPT_TUD_EXT.1", "FMT_MOF_EXT.1"),
        when="a bundle is taken beyond its days",
        details=(("started", ("days", "reason", "source")), *_UPDATE[1:]),
    ),
    AuditEvent(
        name="update-rollback",
        rows=("FPT_TUD_EXT.1", "FMT_MOF_EXT.1"),
        when="an administrator goes back to the generation before",
        details=(("started", ()), *_UPDATE[1:]),
    ),
    AuditEvent(
        name="update-finish",
        rows=("FPT_TUD_EXT.1",),
        when="the agent finishes or undoes what a reboot was needed for",
        details=(("started", ()), *_UPDATE[1:]),
    ),
    AuditEvent(
        name="update-health",
        rows=("FPT_TUD_EXT.1",),
        when="a generation does not pass its health check in time, and the host goes back",
        details=(("failed", ("cause", "generation")),),
    ),
    AuditEvent(
        name="update-hook",
        rows=("FPT_TUD_EXT.1",),
        when="a program of the administrator's runs around an update",
        details=(("started", ()), ("done", ()), ("failed", ERROR), ("refused", ERROR)),
    ),
    AuditEvent(
        name="update-pause",
        rows=("FMT_MOF_EXT.1",),
        when="an administrator pauses unattended updates",
        details=(("started", ("reason", "until")), ("done", ("reason", "until"))),
    ),
    AuditEvent(
        name="update-resume",
        rows=("FMT_MOF_EXT.1",),
        when="an administrator ends the pause",
        details=(("started", ()), ("done", ())),
    ),
    AuditEvent(
        name="update-silence",
        rows=("FTP_ITC_EXT.1",),
        when="updates were out of reach for too long",
        details=(("failed", ("days", "last")),),
    ),
    AuditEvent(
        name="floor-time",
        rows=("FPT_TUD_EXT.1",),
        when="the lowest time that is accepted of metadata sank, since the clock had been wrong",
        details=(("done", ("sank_to",)),),
    ),
    AuditEvent(
        name="hook-renewal",
        rows=("FPT_TUD_EXT.1",),
        when="libvirt's hook is written anew",
        details=(("done", ("hook",)),),
    ),
    AuditEvent(
        name="audit-alarm",
        rows=("FAU_SAA.1", "FAU_ARP.1"),
        when="five refusals came within ten minutes; `last` is the number of the last one",
        details=(("done", ("count", "last", "rule", "seconds")),),
    ),
    AuditEvent(
        name="audit-failure",
        rows=("FAU_STG_EXT.1",),
        when="the first record after a time in which none could be written; the failure itself went to the journal",
        details=(("failed", ("cause", "code", "since", "unwritten")),),
    ),
    AuditEvent(
        name="audit-channel-open",
        rows=(*_CHANNEL, "FIA_X509_EXT.1", "FCS_TLSC_EXT.1"),
        when="the channel to the log server is opened; refused where its certificate is not right, with both names",
        details=(
            ("done", ("certificate", "peer", "server")),
            ("failed", ("cause", "code", "server")),
            ("refused", ("cause", "code", "server")),
        ),
    ),
    AuditEvent(
        name="audit-channel-close",
        rows=(*_CHANNEL, "FCS_TLSC_EXT.1"),
        when="the channel to the log server is ended by the agent (done), or broke (failed)",
        details=(("done", ("cause", "peer", "server")), ("failed", ("cause", "peer", "server"))),
    ),
    AuditEvent(
        name="audit-silence",
        rows=("FTP_ITC_EXT.1",),
        when="the log server was out of reach for too long",
        details=(("failed", ("hours", "last", "server", "waiting")),),
    ),
    AuditEvent(
        name="host-key",
        rows=("FPT_ML_EXT.1",),
        when="the key under which all keys of VMs lie is made, or sealed anew",
        details=(("started", ("why",)), ("done", ("why",)), ("failed", ("cause", "code", "why"))),
    ),
    AuditEvent(
        name="floor",
        rows=("FPT_TUD_EXT.1",),
        when="the floor that was sealed with the host's key does not agree with the files",
        details=(("failed", ("why",)),),
    ),
    AuditEvent(
        name="recovery-key",
        rows=("FMT_MOF_EXT.1",),
        when="a recovery key is installed, or takes the place of another",
        details=(("started", ("before", "key")), ("done", ("before", "key")), ("failed", ("cause", "code"))),
    ),
    AuditEvent(
        name="recovery-copy",
        rows=("FPT_ML_EXT.1",),
        when="a VM's key is wrapped for the recovery key",
        details=(("started", ("copy", "key")), ("done", ("copy", "key"))),
    ),
    AuditEvent(
        name="recovery-copies",
        rows=("FMT_MOF_EXT.1",),
        when="recovery copies are handed to the command that tests or uses them",
        details=(("done", ("key", "purpose")),),
    ),
    AuditEvent(
        name="recovery-use",
        rows=("FMT_MOF_EXT.1",),
        when="VMs' keys that a recovery key opened are wrapped by this host anew",
        details=(("started", ("key", "vms")), ("done", ("key", "vms")), ("failed", ("cause", "code"))),
    ),
    AuditEvent(
        name="management",
        rows=("FMT_MOF_EXT.1", "FIA_UIA_EXT.1"),
        when="somebody who is not root uses a function that changes something, or is refused one",
        details=(("started", ("function", "roles")), ("refused", ("cause", "code", "function"))),
    ),
    AuditEvent(
        name="role-grant",
        rows=("FMT_MOF_EXT.1",),
        when="somebody gets a role",
        details=(("started", ("role",)), ("done", ("role",)), ("failed", ("cause", "code", "role"))),
    ),
    AuditEvent(
        name="role-revoke",
        rows=("FMT_MOF_EXT.1",),
        when="somebody loses a role",
        details=(("started", ("role",)), ("done", ("role",)), ("failed", ("cause", "code", "role"))),
    ),
    AuditEvent(
        name="banner",
        rows=("FMT_MOF_EXT.1", "FTA_TAB.1"),
        when="the text before interactive management is set",
        details=(
            ("started", ("characters", "fsverity")),
            ("done", ("characters", "fsverity")),
            ("failed", ("cause", "characters", "code", "fsverity")),
        ),
    ),
    AuditEvent(
        name="audit-sent",
        rows=("FAU_STG.1",),
        when="the trail lacks a record that was off-loaded, so it was cut or exchanged; or what says so is damaged",
        details=(("refused", ("cause", "hash", "sent", "server")),),
    ),
    *VM_EVENTS,
)

UNRECORDED = (
    UnrecordedEvent(
        row="FMT_MOF_EXT.1",
        event="functions that only read, and what root reads",
        why="they change nothing; whoever is refused one is recorded (management)",
    ),
    UnrecordedEvent(
        row="FIA_UIA_EXT.1, FIA_AFL_EXT.1",
        event="authentication of administrators, and its limit",
        why="vmgate authenticates nobody: the operating system does, and records it",
    ),
    UnrecordedEvent(
        row="FPT_ML_EXT.1",
        event="the values that were measured",
        why="they lie in the measurement log, which a record names no digest of yet",
    ),
    UnrecordedEvent(
        row="FCS_RBG_EXT.1",
        event="failure of the random number generator",
        why="the kernel's and OpenSSL's: they end the process, and the service manager records that",
    ),
    UnrecordedEvent(
        row="FPT_HCL_EXT.1",
        event="hypercalls that were refused",
        why="KVM does not tell them to user space",
    ),
    UnrecordedEvent(
        row="FAU_SAA.1",
        event="analysis on and off",
        why="it is on while the agent runs, which is recorded",
    ),
    UnrecordedEvent(
        row="FCS_IPSEC_EXT.1, FCS_HTTPS_EXT.1",
        event="their sessions",
        why="the log server's channel is TLS; updates are trusted by their signatures, not by their channel",
    ),
)


def event(name: str) -> AuditEvent | None:
    """The event of a name, or None."""
    return next((event for event in EVENTS if event.name == name), None)
