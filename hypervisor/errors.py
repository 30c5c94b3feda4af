# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with VMs. No exception of libvirt or of the XML library leaves this package.

This module does not decide what happens next.
"""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class HypervisorError(VmgateError):
    """The root of this package's errors; raised itself for failures of libvirt that have no name of their own."""

    code = "HY000"
    explanation = "libvirt did not do what vmgate asked. Its own words are in the error; its log says more."


class LibvirtAway(HypervisorError):
    """No connection to libvirt."""

    code = "HY001"
    exit = Exit.NOT_READY
    explanation = (
        "libvirt does not answer on its socket. It may not be installed, not be started, or refuse this user. "
        "Start libvirtd (or virtqemud) and try again."
    )


class DomainMissing(HypervisorError):
    """libvirt does not know the VM."""

    code = "HY002"
    exit = Exit.NOT_FOUND
    explanation = "libvirt has no domain of that name. `vmgate vm list` shows the VMs of the active releases."


class StartRefused(HypervisorError):
    """A libvirt hook said no.

    Attributes:
        said: what the hook printed, in one line.
    """

    code = "HY003"
    exit = Exit.REFUSED
    explanation = (
        "libvirt asked the gate before it started the VM, and the gate said no. The VM is off. "
        "`vmgate vm why NAME` lists each check with what was expected and found."
    )

    def __init__(self, what: str, *, said: str, remedy: str) -> None:
        super().__init__(what, cause=said, remedy=remedy)
        self.said = said


class KeyAbsent(HypervisorError):
    """The secret that encrypts the state of the VM's TPM is not there: the gate did not give it."""

    code = "HY004"
    exit = Exit.REFUSED
    explanation = (
        "The VM's TPM is encrypted with a key that only the gate hands out, and the gate did not. The VM is off. "
        "Most likely libvirt runs without vmgate's hook: restart libvirtd, then `vmgate vm start`."
    )


class StartFailed(HypervisorError):
    """libvirt or QEMU could not start the VM."""

    code = "HY005"
    explanation = "The gate let the VM start, but libvirt or QEMU could not. The VM is off. libvirt's log says more."


class StopTimedOut(HypervisorError):
    """The guest was asked to shut down and still runs."""

    code = "HY006"
    exit = Exit.TIMED_OUT
    explanation = (
        "The guest was asked to shut down and did not within the time given. It still runs. "
        "Wait longer, or switch it off with `vmgate vm kill NAME`."
    )


class DomainRefused(HypervisorError):
    """libvirt does not take the domain's XML."""

    code = "HY007"
    explanation = "libvirt does not accept the domain that the VM's definition renders to. It was not defined."


class UnreadableDomain(HypervisorError):
    """Bytes that should be domain XML are not, or are not safe to read."""

    code = "HY008"
    exit = Exit.REFUSED
    explanation = (
        "Domain XML was too large, not well-formed, had a document type or entities, or was no domain. "
        "It was not looked at any further."
    )


class ConfigurationUnreadable(HypervisorError):
    """A configuration file of libvirt is not in its form."""

    code = "HY009"
    exit = Exit.NOT_READY
    explanation = (
        "qemu.conf, libvirtd.conf or virtqemud.conf is not what libvirt's own reader would take, or says the same "
        "thing twice. What isolates VMs could not be checked, so it counts as not isolated."
    )


class ImageUnreadable(HypervisorError):
    """A disk image is not a regular file, or cannot be read."""

    code = "HY020"
    exit = Exit.REFUSED
    explanation = (
        "The beginning of a disk image could not be read, so nobody knows what it names. It was not used. "
        "The message has the system's own reason; links and devices are not followed."
    )


class ImageNotRaw(HypervisorError):
    """An image that is declared raw begins like another format.

    Attributes:
        found: QEMU's name of the format.
        names: the files that its header names, as far as that can be told.
    """

    code = "HY021"
    exit = Exit.REFUSED
    explanation = (
        "A raw image begins with the header of another format. A program that guesses the format would open what the "
        "header names, which may be any file of the host: that is how a guest reads what is not its own. Convert the "
        "image if you made it. If a guest wrote it, treat it as an attack and do not open it with any tool."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, found: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.found = found
        self.names = names


class Qcow2Malformed(HypervisorError):
    """Bytes that should be a qcow2 header are none."""

    code = "HY022"
    exit = Exit.REFUSED
    explanation = (
        "The header of a qcow2 image is damaged, too long, or not of version 2 or 3. Nothing that it names was opened."
    )


class Qcow2Refused(HypervisorError):
    """A qcow2 image has something that vmgate does not take.

    Attributes:
        feature: what, in a word, such as ``external-data-file``.
    """

    code = "HY023"
    exit = Exit.REFUSED
    explanation = (
        "A qcow2 image is well-formed and has a feature that vmgate does not take: an external data file, encryption, "
        "snapshots or bitmaps inside, a mark that it is damaged, a backing file without a format, a feature that this "
        "version does not know, or impossible sizes. The message names it. Nothing that the image names was opened."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, feature: str) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.feature = feature


class ChainRefused(HypervisorError):
    """A disk's images do not stand on each other as declared."""

    code = "HY024"
    exit = Exit.REFUSED
    explanation = (
        "A disk is an image over a backing file, over another. Each must name exactly the one that the VM's definition "
        "puts below it, with its format, and the last must name none. One does not; none of what it names was opened."
    )


class IntrospectionError(HypervisorError):
    """The root of what can go wrong when a guest is read from its memory."""

    code = "HY040"
    exit = Exit.REFUSED
    explanation = "A guest was to be read from its memory, and that was not possible. Nothing is known about it."


class CoreMalformed(IntrospectionError):
    """The image of a guest's memory is not one."""

    code = "HY041"
    explanation = "QEMU's image of the guest's memory is not in the expected form. It was not looked at any further."


class MemoryUnreadable(IntrospectionError):
    """An address of the guest has no memory behind it."""

    code = "HY042"
    explanation = (
        "The guest's own tables point at an address that has no memory behind it. Either it was read in an unlucky "
        "moment, or the guest is not what it should be."
    )


class KernelMissing(IntrospectionError):
    """No Linux kernel was found in the guest's memory."""

    code = "HY043"
    explanation = (
        "In the guest's memory no Linux kernel for x86-64 with BTF and kallsyms was found. Guests of another kind, and "
        "guests that still boot, cannot be read. A guest that hides its kernel is not healthy."
    )


class TypesMalformed(IntrospectionError):
    """The kernel's description of its types is damaged, or not the signed one."""

    code = "HY044"
    explanation = (
        "The kernel in the guest describes its types in BTF. That description is damaged, lacks what is needed, or is "
        "not the one whose digest stands in the VM's signed definition."
    )


class ReaderFailed(IntrospectionError):
    """The confined process that reads a guest's memory did not answer well."""

    code = "HY045"
    explanation = (
        "A guest's memory is read by a process that may do nothing else. It ended without an answer, took too long, or "
        "answered in a form that is not its own. The guest may have tried to break it; nothing of the answer was used."
    )


class IntrospectionForbidden(IntrospectionError):
    """The VM's signed definition does not let its memory be read."""

    code = "HY046"
    explanation = (
        "A VM's memory is read only where its signed definition has the member `introspection`. This one's has not, or "
        "the VM was started from another definition. Its publisher decides; a host cannot allow it."
    )


class NoRoomForMemory(IntrospectionError):
    """The image of a guest's memory has no safe place."""

    code = "HY047"
    exit = Exit.NOT_READY
    explanation = (
        "The image of a guest's memory lies in a folder of root's in memory, never on a disk, for the seconds in which "
        "it is read. That folder is not safe or has too little room: it takes as much as the guest has memory."
    )
