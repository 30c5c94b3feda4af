# SPDX-License-Identifier: Apache-2.0
"""What the agent can tell a user that went wrong; about one VM and what it has, ``agent.vm_errors`` does.

AG001 to AG003 are the libvirt hook's own.
"""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class AgentError(VmgateError):
    """The root of the agent's errors."""

    code = "AG000"
    explanation = "The agent could not do what it was asked."


class Refused(AgentError):
    """The gate said no."""

    code = "AG010"
    exit = Exit.REFUSED
    explanation = (
        "The VM, or the VMM it would run on, is not what its publisher signed, or that could not be checked. The VM "
        "stays off. `vmgate vm why NAME` lists each check with what was expected and found. Ways out: put the right "
        "file back (`vmgate update apply` fetches it again), `vmgate update rollback`, or a corrected release."
    )


class PolicyRefused(AgentError):
    """The signed policy of this host does not allow it."""

    code = "AG011"
    exit = Exit.POLICY
    explanation = "The security policy of the active platform release does not allow this."


class NotReady(AgentError):
    """The host lacks something that must be there first."""

    code = "AG012"
    exit = Exit.NOT_READY
    explanation = "The host is not set up, has no release yet, or its TPM, libvirt or state is not usable."


class NotFound(AgentError):
    """No such thing on this host."""

    code = "AG013"
    exit = Exit.NOT_FOUND
    explanation = "There is nothing of that name on this host."


class AgentAway(AgentError):
    """The agent's socket does not answer."""

    code = "AG014"
    exit = Exit.NOT_READY
    explanation = "The vmgate agent is not running, so nothing can be started. Start it with `vmgate agent run`."


class BadRequest(AgentError):
    """A caller of the local API sent something that the agent does not understand."""

    code = "AG015"
    exit = Exit.USAGE
    explanation = "A command and the agent are not of the same version. Restart the agent."


class NotPermitted(AgentError):
    """The caller may not do this."""

    code = "AG016"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "What was asked for belongs to a management function that the caller has no role for, or is about a VM that is "
        "not assigned to it. Nothing was changed, and it is recorded. `vmgate role matrix` shows which role has which "
        "function; root has all. Root grants roles by `vmgate role grant`."
    )


class SettingsWrong(AgentError):
    """vmgate.toml is not what vmgate reads."""

    code = "AG017"
    exit = Exit.USAGE
    explanation = (
        "The configuration file has an unknown key or a value that is out of its range. Nothing was changed. "
        "Its keys are repository, mirrors, proxy, ca_file, bandwidth, channels, host, tpm, libvirt, hook, accelerator "
        "and the tables update, audit and site."
    )


class HookFailed(AgentError):
    """A hook before an unattended update said no, failed or took too long."""

    code = "AG018"
    exit = Exit.POLICY
    explanation = (
        "A program in /etc/vmgate/hooks ended with another exit code than 0, could not be started, or ran longer than "
        "update.hook_seconds and was ended. Before an update that stops it, and nothing was changed; what the program "
        "printed is in the agent's log. `vmgate update apply` by hand runs no hooks."
    )


class HookUntrusted(AgentError):
    """A hook could have been written by somebody else than root."""

    code = "AG019"
    exit = Exit.REFUSED
    explanation = (
        "A program in /etc/vmgate/hooks, or a folder on the way to it, does not belong to root, can be written by "
        "others, is a link or is not executable. None of that folder's programs was run, and no unattended update "
        "happens until it is mended."
    )


class UpdatesSilent(AgentError):
    """Updates were out of reach for too long."""

    code = "AG020"
    exit = Exit.NOT_READY
    explanation = (
        "For more than update.stale_days this host has not been able to look its updates up with fresh metadata, or to "
        "fetch what was new. Somebody may be keeping them from it. `vmgate update apply` tries again and says what "
        "fails; a fresh bundle ends the alarm as well."
    )


class PauseRefused(AgentError):
    """A pause of updates that is not bounded."""

    code = "AG021"
    exit = Exit.USAGE
    explanation = "A pause of updates ends between now and 90 days from now, and has a reason."


class StateCopiedBack(AgentError):
    """What is active is older than what this host has shut out for good."""

    code = "AG070"
    exit = Exit.REFUSED
    explanation = (
        "The lowest releases that a host still runs are sealed with its key, and its TPM's counter shuts older copies "
        "of that key. The files in /var/lib/vmgate name a release below them: somebody copied back an earlier state of "
        "the folder, or a part of it. No VM starts from it; `vmgate update apply` brings the host to the newest. On a "
        "host with a software TPM (level L0) whoever copies back its state as well is not found out."
    )


class BreakGlassRefused(AgentError):
    """A bundle was to be imported beyond its days, without what that takes."""

    code = "AG030"
    exit = Exit.USAGE
    explanation = (
        "`vmgate update import BUNDLE --allow-stale DAYS` takes a bundle although it has expired and the days that its "
        "releases allow are over. DAYS, 1 to 3660, count from the publication of each release. It wants a reason of "
        "one line, and a confirmation on a terminal or -y. Nothing else is allowed by it. It is recorded."
    )


class BaselineChanged(AgentError):
    """What was to be approved is not what is there."""

    code = "AG080"
    exit = Exit.REFUSED
    explanation = (
        "`vmgate config approve` approves exactly what it has shown. Something that is local to this host changed in "
        "between, or cannot be measured at all. Nothing was approved. `vmgate config check` shows what is there now."
    )


class KexecOpen(AgentError):
    """kexec could not be switched off before a VM starts."""

    code = "AG081"
    exit = Exit.NOT_READY
    explanation = (
        "While gated VMs run nobody may start another kernel by kexec: it would go on with this one's measurements. "
        "The agent sets kernel.kexec_load_disabled=1, which lasts until the next boot, and the kernel did not take it. "
        "No VM starts meanwhile."
    )


class RolesWrong(AgentError):
    """roles.toml is not what vmgate reads, or was to become so."""

    code = "AG100"
    exit = Exit.USAGE
    explanation = (
        "/etc/vmgate/roles.toml holds tables [[grant]] with role (administrator, operator, auditor or user), one of "
        'user and group, and, for the role user alone, vms: names of VMs, or "*" for all. Root must own it and its '
        "folder, and nobody else may write to them. While it is wrong nobody but root has a role."
    )


class NotFresh(AgentError):
    """What changes trust needs a caller who has just proved who it is."""

    code = "AG101"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "Granting roles, approving what is local to the host, importing a bundle beyond its days and recovery keys ask "
        "an administrator who is not root for a password each time, by polkit (org.vmgate.*). It was not given, there "
        "is no polkit, or no polkit agent runs in the session. Nothing was changed. Root is not asked."
    )


class BannerWrong(AgentError):
    """A text that cannot be a banner."""

    code = "AG102"
    exit = Exit.USAGE
    explanation = "A banner is UTF-8 text of at most 4,000 characters. The one before it stays."


class ServerUnreachable(AgentError):
    """The log server does not answer, or went away."""

    code = "AG110"
    exit = Exit.UNREACHABLE
    explanation = (
        "The audit trail is off-loaded to the log server of [audit] in the settings. It does not answer, or the "
        "channel broke. Records wait in the trail and are sent, in order, when it is back: none is lost."
    )


class ServerRefused(AgentError):
    """The log server is not the administrator's, or that cannot be known."""

    code = "AG111"
    exit = Exit.REFUSED
    explanation = (
        "The log server's certificate was refused: its path to ca_file, its times, its purpose, its name, or the "
        "revocation lists in crl_file, which must be there and not expired. No record was sent. Records wait."
    )


class RecoveryKeyThere(AgentError):
    """A recovery key would take the place of another one."""

    code = "AG130"
    exit = Exit.POLICY
    explanation = (
        "This host has a recovery key already. A new one takes its place only by `vmgate recovery create --replace`; "
        "the copies of the VMs' keys are then made anew, and the old file opens them no more."
    )


class CopyUnknown(AgentError):
    """A recovery copy is not the one that this host made last of this VM's key."""

    code = "AG131"
    exit = Exit.REFUSED
    explanation = (
        "Each recovery copy of a VM's key is named in the audit trail when it is made. This one is not the newest, is "
        "of another VM or another key, or stands beside a key that is gone. Nothing was changed. Put the newest "
        "key-recovery.json back into the VM's folder, or see docs/guide/recovery.md."
    )


class OutOfSight(AgentError):
    """A file lies where the agent's service sees a folder of its own."""

    code = "AG170"
    exit = Exit.NOT_FOUND
    explanation = (
        "The agent's service has a /tmp and a /var/tmp of its own, so that no other program's files are in its way. A "
        "file that lies there for you is not there for the agent. Put it elsewhere; home folders are seen."
    )


class PorterAway(AgentError):
    """What the agent's box does not allow was not done for it."""

    code = "AG171"
    exit = Exit.NOT_READY
    explanation = (
        "The agent runs in a box: it mounts nothing and cannot look at the processes of others. Another service of "
        "root's, vmgate-porter, does that for it, and did not, or the kernel refused. A VM whose VMM is an image does "
        "not start without it. `systemctl status vmgate-porter.socket vmgate-porter.service` and the log say more."
    )


class ImageNotMounted(AgentError):
    """The VMM image of a release cannot be used as it lies."""

    code = "AG180"
    exit = Exit.NOT_READY
    explanation = (
        "The release brings its VMM as an image, and the kernel did not mount it: loop devices or EROFS may be missing "
        "(`modprobe loop erofs`), or another file system is mounted in its place and in use. No VM starts until it is."
    )


class Unhealthy(AgentError):
    """A generation did not pass its health check in time."""

    code = "AG181"
    exit = Exit.REFUSED
    explanation = (
        "After a switch, what worked before must work again before `health_seconds` are over: libvirt answers, each VM "
        "that ran would be let start, and the programs in /etc/vmgate/hooks/update-health.d agree. It did not, so that "
        "the host went back, and these releases are not offered again on their own."
    )


class StateNewer(AgentError):
    """The state of this host is of a form that this vmgate does not know."""

    code = "AG182"
    exit = Exit.NOT_READY
    explanation = (
        "A newer vmgate has brought the state of this host into a form that this one cannot read. Nothing was changed, "
        "and no VM starts. Start the newer vmgate again, or let it take the state back by `vmgate update rollback`."
    )


class StateStays(AgentError):
    """The state of this host cannot be taken back to what an earlier vmgate reads."""

    code = "AG183"
    exit = Exit.POLICY
    explanation = (
        "A rollback would bring back a vmgate that cannot read the state as it is, and taking it back would lose what "
        "keeps VMs' keys. Nothing was changed."
    )


class SiteAnchorRefused(AgentError):
    """The anchor of the site's repository is not the one that the settings name."""

    code = "AG184"
    exit = Exit.REFUSED
    explanation = (
        "The table [site] of vmgate.toml names a file with the root metadata of the site's repository and the digest "
        "that it must have. The file is missing, is no root that signs itself, or has another digest, which the line "
        "tells. The agent does not start: who may bring VMs to this host must be certain. Take the table out to follow "
        "no site."
    )


class AgentSaid(AgentError):
    """An error that happened in the agent, as it worded it."""

    code = "AG098"
    explanation = "The agent answered with an error of its own code; look that code up instead."

    def __init__(self, line: str, status: Exit) -> None:
        super().__init__(line, cause="the agent said so", remedy="see the line")
        self._line = line
        self.status = status

    def line(self) -> str:
        """The agent's line, made printable."""
        return "".join(c if c.isprintable() else "?" for c in self._line)


class InternalFailure(AgentError):
    """A bug. The trust decision, if any, was no."""

    code = "AG099"
    explanation = "The agent met a bug. The request was refused; the agent's log says more."
