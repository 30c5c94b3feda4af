# SPDX-License-Identifier: Apache-2.0
"""Rules about the machine itself: accelerator, firmware, boot, processor and memory."""

from __future__ import annotations

from hypervisor.rules.rule import Rule

UNKNOWN = Rule(
    id="HV000",
    level="deny",
    where=(),  # found by the allowlist in ``hypervisor.elements``
    why="Nobody has looked at what this element or attribute does, or the XML cannot be read.",
    fix="Remove it.",
    sfr="FPT_VIV_EXT.1",
)

MACHINE = (
    Rule(
        id="HV001",
        level="deny",
        where=("/domain[not(@type='kvm')]",),
        why="Without KVM, QEMU promises no isolation of the guest.",
        fix="Use type='kvm'.",
        sfr="FPT_VIV_EXT.1, FPT_HAS_EXT.1",
    ),
    Rule(
        id="HV002",
        level="deny",
        where=(
            "/domain[not(os/type/@machine)]",
            r"/domain/os/type[@machine][not(re:test(@machine, '^(pc-q35|virt)-(rhel)?\d+\.\d+(\.\d+)?$'))]",
        ),
        why="The machine type is outside QEMU's security policy, or changes with the next QEMU.",
        fix="Use a versioned q35 machine, such as pc-q35-7.2.",
        sfr="FPT_VDP_EXT.1",
    ),
    Rule(
        id="HV003",
        level="deny",
        where=(
            (
                "/domain/devices/emulator[not("
                "re:test(., '^/usr/(bin|libexec)/(qemu-system-(x86_64|aarch64)|qemu-kvm)$')"
                " or re:test(., '^/run/vmgate/vmm/[0-9a-f]{64}/bin/qemu-system-x86_64$'))]"
            ),
        ),
        why="Any program could run as the emulator.",
        fix="Name the emulator that the platform release measures.",
        sfr="FPT_ML_EXT.1",
    ),
    Rule(
        id="HV004",
        level="deny",
        where=("//*[starts-with(namespace-uri(), 'http://libvirt.org/schemas/domain/')]",),
        why="It passes arguments to QEMU that no check looks at.",
        fix="Remove it.",
        sfr="FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV005",
        level="deny",
        where=(
            "/domain/seclabel[@type='none' or @relabel='no']",
            # A base image that all may read and none may write needs no owner of its own.
            (
                "/domain/devices//seclabel[@relabel='no']"
                "[not(@model='dac' and (../../self::disk[readonly] or ../../self::backingStore))]"
            ),
        ),
        why="The VM runs without a security label of its own, so other VMs' files are in its reach.",
        fix="Leave labels to libvirt (type='dynamic').",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV005",
        level="warn",
        where=("/domain/seclabel[@type='static']",),
        why="Two VMs with the same static label are not kept apart.",
        fix="Leave labels to libvirt (type='dynamic'), or give each VM its own.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV006",
        level="deny",
        where=(
            "/domain/os/loader[not(@readonly='yes') or not(@type='pflash') or @stateless='yes']",
            "/domain/os/loader[text()][not(starts-with(., '/'))]",
        ),
        why="The guest could rewrite its firmware, or boots one that no release names.",
        fix="Use <loader readonly='yes' secure='yes' type='pflash'> with the measured file.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV007",
        level="deny",
        where=(
            "/domain[not(os/loader) and not(os/@firmware='efi')]",
            "/domain/os[loader][not(@firmware)][not(loader/@secure='yes')]",
            (
                "/domain/os[@firmware='efi'][not(firmware/feature[@name='secure-boot']/@enabled='yes')"
                " or not(firmware/feature[@name='enrolled-keys']/@enabled='yes')]"
            ),
            "/domain[not(features/smm/@state='on')]",
        ),
        why="The guest's firmware would start boot loaders that nobody signed.",
        fix="Use Secure Boot firmware with enrolled keys, and <smm state='on'/>.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV008",
        level="deny",
        where=(
            "/domain/os[loader or @firmware][not(nvram)]",
            "/domain/os/nvram[starts-with(normalize-space(.), '/var/lib/libvirt/qemu/nvram/')]",
            "/domain/os/nvram/source[starts-with(@file, '/var/lib/libvirt/qemu/nvram/')]",
            "/domain/os/nvram[@type and not(@type='file')]",
            "/domain/os/nvram[not(source/@file)][not(starts-with(normalize-space(.), '/'))]",
            "/domain/os/nvram[@template][not(starts-with(@template, '/usr/share/'))]",
        ),
        why="In the shared folder every QEMU may write it, so one VM could change another's Secure Boot keys.",
        fix="Give the VM a variables file in a folder of its own, made from the signed template.",
        sfr="FDP_VMS_EXT.1, FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV009",
        level="deny",
        where=("/domain/os/kernel", "/domain/os/initrd", "/domain/os/cmdline", "/domain/os/dtb"),
        why="A file of the host is booted past the firmware's keys.",
        fix="Boot a signed image from a disk.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV010",
        level="deny",
        where=(
            "/domain/os/bootmenu[@enable='yes']",
            "/domain/os/boot[@dev='network' or @dev='fd']",
            "/domain/os/bios[@useserial='yes']",
            "/domain/devices/*/rom[@file]",
            "/domain/devices/interface/boot",
        ),
        why="Something else than the VM's own disk could be booted.",
        fix="Boot from the first disk only.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV011",
        level="deny",
        where=(
            "/domain/os/smbios[@mode='host']",
            "/domain/os/acpi/table",
            "/domain/sysinfo[@type='fwcfg']/entry[@file]",
        ),
        why="It shows the host's identity or files to the guest, or runs a host file's code in it.",
        fix="Remove it.",
        sfr="FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV063",
        level="deny",
        where=(
            "/domain/on_crash[starts-with(., 'coredump-')]",
            "/domain/devices/watchdog[@action='dump']",
            "/domain/memory[@dumpCore='on']",
        ),
        why="The guest's memory, with its keys, would be written to a disk of the host.",
        fix="Use <on_crash>destroy</on_crash> and <memory dumpCore='off'>.",
        sfr="FDP_RIP_EXT.1",
    ),
    Rule(
        id="HV063",
        level="warn",
        where=("/domain/memory[not(@dumpCore)]", "/domain/devices/panic"),
        why="When QEMU crashes or the guest panics, its memory may be written to a disk of the host.",
        fix="Use <memory dumpCore='off'> and no panic device.",
        sfr="FDP_RIP_EXT.1",
    ),
    Rule(
        id="HV073",
        level="deny",
        where=("/domain[not(memoryBacking/nosharepages)]",),
        why="Pages merged with another VM's tell by their timing what that VM holds.",
        fix="Add <memoryBacking><nosharepages/></memoryBacking>.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV074",
        level="deny",
        where=(
            "/domain/memoryBacking/access[@mode='shared']",
            "/domain/memoryBacking/source[@type='file']",
            "/domain/cpu/numa/cell[@memAccess='shared']",
            "/domain/devices/memory[@model='nvdimm' or @model='virtio-pmem' or @access='shared']",
        ),
        why="Another process could map the guest's memory.",
        fix="Use private anonymous memory.",
        sfr="FDP_RIP_EXT.1, FPT_INT_EXT.1",
    ),
    Rule(
        id="HV075",
        level="warn",
        where=("/domain/memoryBacking/hugepages",),
        why="Huge pages come from a pool that VMs share; what a VM left in them must have been cleared.",
        fix="Use ordinary pages, or a host that clears pages when it hands them out.",
        sfr="FDP_RIP_EXT.1",
    ),
    Rule(
        id="HV080",
        level="deny",
        where=(
            "/domain[not(cpu)]",
            "/domain/cpu[@mode='host-passthrough' or @mode='maximum']",
            (
                "/domain/cpu[not(feature[@name='vmx'][@policy='disable' or @policy='forbid'])"
                " or not(feature[@name='svm'][@policy='disable' or @policy='forbid'])]"
            ),
        ),
        why="A guest that can start guests reaches the least tested part of KVM.",
        fix="Use host-model or a named model, and disable the features vmx and svm.",
        sfr="FPT_HAS_EXT.1, FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV081",
        level="warn",
        where=(
            (
                "/domain[@type='kvm']/cpu[@mode='custom'][re:test(model, '^(qemu|kvm)') or not(feature"
                "[re:test(@name, '^((virt|amd)-)?ssbd$')][@policy='require' or @policy='force'])]"
            ),
        ),
        why="The guest does not see what it needs to protect itself from other guests on the same processor.",
        fix="Use host-model, or require ssbd, md-clear and spec-ctrl (Intel) or virt-ssbd and ibpb (AMD).",
        sfr="FPT_EEM_EXT.1",
    ),
    Rule(
        id="HV082",
        level="deny",
        where=(
            "/domain[not(features/vmport/@state='off')]",
            "/domain[not(features/pmu/@state='off')]",
            "/domain/features/hyperv[@mode='passthrough']",
        ),
        why="The guest gets a port made for another product's tools, counters of the host, or whatever the host has.",
        fix="Use <vmport state='off'/> and <pmu state='off'/>, and name each Hyper-V feature.",
        sfr="FPT_HCL_EXT.1, FPT_DVD_EXT.1",
    ),
    Rule(
        id="HV082",
        level="warn",
        where=("/domain/features/pvspinlock[@state='on']",),
        why="It is code of the hypervisor that the guest reaches without need.",
        fix="Remove <pvspinlock state='on'/>.",
        sfr="FPT_HCL_EXT.1",
    ),
)
