# SPDX-License-Identifier: Apache-2.0
"""Every way in which a VM comes to run or becomes another one while it runs, and who meets it. Pure data.

`docs/gate-ways.md` is made from it, and each row names the test that shows it. This module does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

JUDGED = "the gate judges it"
REFUSED = "refused"
POLICY = "suspended or killed, as signed policy says"
TOLD = "recorded and told, for it has no key, store or network"
ENDS = "the VM ends"

HOOK = "libvirt's hook, `prepare`"
SHUT = "libvirt's hook, which lets none of these in"
KEY = "the key: its TPM's secret is not there"
LIBVIRT = "libvirt itself"
QEMU = "QEMU itself"
WATCH = "the watch"
SAME = "nobody: it is the same run of the same QEMU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way.

    Attributes:
        name: unique, short.
        how: a command or an act.
        met: who meets it.
        answer: what becomes of it.
        test: file and function that show it, below ``tests``.
    """

    name: str
    how: str
    met: str
    answer: str
    test: str


_START, _WAYS = "integration/gate/test_start.py", "integration/gate/test_ways.py"
_DOMAIN, _WATCH = "integration/gate/test_domain.py", "integration/gate/test_watch.py"
_CHANGES = f"{_WATCH}::test_a_change_past_vmgate_is_found_and_answered"
_CLOSED = f"{_WATCH}::test_what_libvirt_or_qemu_refuse_by_themselves_changes_nothing"
_SHUT = f"{_WAYS}::test_the_hook_refuses_every_other_way_in"

STARTS = (
    Way(
        name="start by vmgate",
        how="`vmgate vm start`",
        met=HOOK,
        answer=JUDGED,
        test=f"{_START}::test_a_good_vm_starts_and_the_start_is_measured_and_recorded",
    ),
    Way(
        name="start by libvirt",
        how="`virsh start`",
        met=HOOK,
        answer=JUDGED,
        test=f"{_START}::test_virsh_start_passes_the_same_gate_and_the_firmwares_variables_are_the_signed_ones",
    ),
    Way(
        name="an edited domain",
        how="`virsh edit` or `define`, then a start",
        met=HOOK,
        answer=REFUSED,
        test=f"{_DOMAIN}::test_an_edited_domain_is_refused_and_the_difference_named",
    ),
    Way(
        name="a transient domain",
        how="`virsh create`",
        met=HOOK,
        answer=REFUSED,
        test=f"{_DOMAIN}::test_a_transient_domain_of_the_same_name_is_refused",
    ),
    Way(
        name="a domain of nobody's",
        how="`virsh define` of another domain, then a start",
        met=HOOK,
        answer=REFUSED,
        test=f"{_DOMAIN}::test_a_domain_that_no_release_defines_is_refused",
    ),
    Way(
        name="autostart",
        how="`virsh autostart`, then a boot",
        met=HOOK,
        answer=JUDGED,
        test="rig/test_gated_vm.py::test_autostart_passes_the_gate_at_the_next_boot",
    ),
    Way(
        name="restore",
        how="`virsh save`, then `restore`",
        met=SHUT,
        answer=REFUSED,
        test=f"{_WAYS}::test_a_saved_memory_image_is_not_resumed",
    ),
    Way(
        name="managed save",
        how="`virsh managedsave`, then a start",
        met=SHUT,
        answer=REFUSED,
        test=f"{_WAYS}::test_a_managed_save_is_not_resumed_either",
    ),
    Way(name="migration in", how="`virsh migrate` from another host", met=SHUT, answer=REFUSED, test=_SHUT),
    Way(name="attach to a QEMU", how="`virsh qemu-attach`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(name="internal snapshot", how="`virsh snapshot-create`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(
        name="snapshot with memory",
        how="`virsh snapshot-create-as --memspec`, then `snapshot-revert`",
        met=LIBVIRT,
        answer=REFUSED,
        test=f"{_WATCH}::test_a_snapshot_with_memory_is_not_reverted_to",
    ),
    Way(
        name="agent away",
        how="a start while the agent does not run",
        met=HOOK,
        answer=REFUSED,
        test=f"{_WAYS}::test_without_the_agent_nothing_starts",
    ),
    Way(
        name="agent killed",
        how="a start while the agent is killed",
        met=HOOK,
        answer=REFUSED,
        test=f"{_WAYS}::test_an_agent_killed_while_a_vm_starts_leaves_no_running_vm_and_no_secret",
    ),
    Way(
        name="hook removed or exchanged",
        how="a start of a VM whose TPM has its state, without our hook",
        met=KEY,
        answer=REFUSED,
        test=f"{_WAYS}::test_without_its_hook_libvirt_has_no_key_for_the_vms_tpm",
    ),
    Way(
        name="domain without a key",
        how="a start of any other domain, without our hook",
        met=WATCH,
        answer=POLICY,
        test=f"{_WATCH}::test_a_domain_that_started_without_the_hook_is_found_and_answered",
    ),
    Way(
        name="another run",
        how="a stop and a start behind the agent's back, under the name of a VM that runs by the log",
        met=WATCH,
        answer=POLICY,
        test="unit/agent/test_drift.py::test_another_run_of_a_vm_that_was_let_start_is_no_run_that_was_let_start",
    ),
    Way(
        name="QEMU by hand",
        how="`qemu-system-x86_64`, or a libvirt built without the hook, run by anybody",
        met=WATCH,
        answer=TOLD,
        test=f"{_WATCH}::test_a_qemu_by_hand_is_recorded_and_told",
    ),
    Way(
        name="session libvirt",
        how="`virsh -c qemu:///session` of any user",
        met=HOOK,
        answer=REFUSED,
        test=f"{_WATCH}::test_a_users_own_libvirt_meets_the_same_hook_and_has_nobody_to_ask",
    ),
)
"""How a VM may come to run."""

CHANGES = (
    Way(name="disk", how="`virsh attach-disk`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="controller", how="`virsh attach-device`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(
        name="entropy",
        how="`virsh attach-device` of a source of entropy",
        met=WATCH,
        answer=POLICY,
        test=_CHANGES,
    ),
    Way(name="rate of a disk", how="`virsh blkdeviotune`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="disk snapshot", how="`virsh snapshot-create-as --disk-only`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="block copy", how="`virsh blockcopy`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="QEMU's monitor", how="`virsh qemu-monitor-command`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="metadata", how="`virsh metadata --set`", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(name="title", how="`virsh desc --title`, which people know the VM by", met=WATCH, answer=POLICY, test=_CHANGES),
    Way(
        name="restart at reboot",
        how="`virsh set-lifecycle-action` (no event: the next sweep finds it)",
        met=WATCH,
        answer=POLICY,
        test=_CHANGES,
    ),
    Way(name="network card", how="`virsh attach-interface`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(name="boot order", how="`virsh update-device`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(name="block pull", how="`virsh blockpull`", met=QEMU, answer=REFUSED, test=_CLOSED),
    Way(name="block commit", how="`virsh blockcommit`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(name="guest agent", how="`virsh set-user-password` and its like", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(name="sleep", how="`virsh dompmsuspend`", met=LIBVIRT, answer=REFUSED, test=_CLOSED),
    Way(
        name="reset",
        how="`virsh reset`, or a reboot by the guest",
        met=QEMU,
        answer=ENDS,
        test=f"{_WATCH}::test_a_reset_ends_the_vm",
    ),
    Way(
        name="resume of what was suspended",
        how="`virsh resume` after the watch suspended it",
        met=WATCH,
        answer=POLICY,
        test=f"{_WATCH}::test_what_was_suspended_is_suspended_again_and_recorded_again",
    ),
    Way(
        name="pause and resume",
        how="`virsh suspend`, then `resume`",
        met=SAME,
        answer="it goes on",
        test=f"{_WATCH}::test_a_vm_that_nobody_touched_goes_on",
    ),
)
"""How a VM that runs may become another one."""

WAYS = STARTS + CHANGES
