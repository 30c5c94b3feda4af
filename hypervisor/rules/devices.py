# SPDX-License-Identifier: Apache-2.0
"""Rules about what is attached: storage, display, host devices, entropy, TPM and old device models."""

from __future__ import annotations

from hypervisor.rules.rule import Rule

STORAGE = (
    Rule(
        id="HV020",
        level="deny",
        where=("/domain/devices/filesystem",),
        why="A folder of the host would be open to the guest.",
        fix="Remove it.",
        sfr="FDP_VMS_EXT.1, FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV022",
        level="deny",
        where=("/domain/devices/shmem",),
        why="Memory shared between VMs is a channel between them.",
        fix="Remove it.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV023",
        level="deny",
        where=("/domain/devices/disk[shareable]", "/domain/devices/disk[@device='cdrom'][not(readonly)]"),
        why="Two VMs that write one disk have a channel, and damage it.",
        fix="Remove <shareable/>; use <readonly/> for what is not the VM's own.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV024",
        level="deny",
        where=(
            "/domain/devices/disk[driver/@type='qcow2'][not(backingStore)]",
            "/domain/devices/disk//backingStore[*][not(format/@type)]",
            "/domain/devices/disk//backingStore[@type and not(@type='file' or @type='volume')]",
            "/domain/devices/disk//source[re:test(@file, '^(json|nbd|ssh|https?|ftps?|fat|rbd|iscsi):')]",
            "/domain/devices/disk//dataStore",
        ),
        why="What a disk's header names would be opened on the host without anyone having said so.",
        fix="Declare the whole backing chain with its formats; raw or qcow2 without data file, local files only.",
        sfr="FDP_VMS_EXT.1, FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV025",
        level="deny",
        where=("/domain/devices/disk[not(driver/@type)]",),
        why="QEMU would guess the format, and a guest can write a header that makes it guess wrong.",
        fix="Name the format: <driver name='qemu' type='raw'/>.",
        sfr="FPT_VDP_EXT.1",
    ),
    Rule(
        id="HV026",
        level="deny",
        where=(
            "/domain/devices/disk[not(@type='file' or @type='volume')]",
            "/domain/devices/disk[@device='lun' or @rawio='yes' or @sgio='unfiltered']",
            "/domain/devices/disk/source[reservations]",
        ),
        why="The guest would reach a disk of the host, or send it commands of its own.",
        fix="Use an image file or a volume.",
        sfr="FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV027",
        level="deny",
        where=(
            "/domain/devices/disk/driver[@copy_on_read='on' or @cache='unsafe']",
            "/domain/devices/disk/mirror",
        ),
        why="Writes could be lost, or be copied elsewhere.",
        fix="Remove it.",
        sfr="FDP_RIP_EXT.2",
    ),
    Rule(
        id="HV028",
        level="deny",
        where=(
            "/domain/devices/disk[@device='floppy']",
            "/domain/devices/disk[@device='cdrom'][starts-with(source/@file, '/dev/') or source/@dev]",
        ),
        why="A medium could carry data from one VM to another.",
        fix="Remove the drive.",
        sfr="FPT_RDM_EXT.1",
    ),
    Rule(
        id="HV028",
        level="grant",
        where=("/domain/devices/disk[@device='cdrom']", "/domain/devices/disk[target/@removable='on']"),
        why="A medium that can be exchanged may carry data from one VM to another.",
        fix="Remove the drive, or grant it and eject the medium before another VM gets it.",
        sfr="FPT_RDM_EXT.1",
    ),
)

DISPLAY = (
    Rule(
        id="HV030",
        level="deny",
        where=(
            "/domain/devices/graphics[@websocket]",
            "/domain/devices/graphics[@listen][not(@listen='127.0.0.1' or @listen='::1')]",
            "/domain/devices/graphics[listen[@type='address'][@address][not(@address='127.0.0.1' or @address='::1')]]",
            "/domain/devices/graphics[listen[@type='network']]",
            "/domain/devices/graphics[@type='sdl' or @type='desktop' or @type='rdp' or @type='dbus']",
        ),
        why="The VM's screen and keyboard would be open to others.",
        fix="Use <listen type='none'/> or a socket.",
        sfr="FTP_TRP.1",
    ),
    Rule(
        id="HV030",
        level="warn",
        where=(
            (
                "/domain/devices/graphics[@type='vnc' or @type='spice'][not(@socket)]"
                "[not(listen[@type='none' or @type='socket'])]"
            ),
        ),
        why="Any user of the host can connect to a port on its loopback address.",
        fix="Use <listen type='none'/> or a socket.",
        sfr="FTP_TRP.1",
    ),
    Rule(
        id="HV031",
        level="deny",
        where=(
            "/domain/devices/graphics[@type='spice'][not(clipboard/@copypaste='no')]",
            "/domain/devices/channel[@type='spicevmc' or @type='qemu-vdagent']",
        ),
        why="The host's clipboard would go to the guest, and back.",
        fix="Use <clipboard copypaste='no'/> and no agent channel.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV032",
        level="deny",
        where=(
            "/domain/devices/graphics[@type='spice'][not(filetransfer/@enable='no')]",
            "/domain/devices/channel[@type='spiceport']",
        ),
        why="Files could be dragged into the guest, or a folder be shared with it.",
        fix="Use <filetransfer enable='no'/> and no spiceport channel.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV033",
        level="deny",
        where=(
            "/domain/devices/graphics[gl/@enable='yes' or @type='egl-headless']",
            "/domain/devices/video[model/@type='qxl' or model/@blob='on']",
            "/domain/devices/video/model[acceleration/@accel3d='yes']",
        ),
        why="The guest would reach the host's graphics driver.",
        fix="Use a virtio or vga model without acceleration.",
        sfr="FPT_DDI_EXT.1, FPT_VDP_EXT.1",
    ),
    Rule(
        id="HV034",
        level="deny",
        where=("/domain/devices/graphics[@passwd]",),
        why="A password in the XML is in files, logs and hooks.",
        fix="Remove it; a ticket is set when someone connects.",
        sfr="FIA_UAU.5",
    ),
    Rule(
        id="HV035",
        level="grant",
        where=("/domain/devices/sound", "/domain/devices/audio[not(@type='none')]"),
        why="The guest could listen, and reaches a service of the host.",
        fix="Use <audio type='none'/> and no sound device, or grant it.",
        sfr="FDP_PPR_EXT.1",
    ),
)

HOST_DEVICES = (
    Rule(
        id="HV040",
        level="deny",
        where=("/domain/devices/redirdev", "/domain/devices/redirfilter/usbdev[@allow='yes']"),
        why="Whoever views the screen could attach any USB device.",
        fix="Remove it.",
        sfr="FPT_RDM_EXT.1",
    ),
    Rule(
        id="HV041",
        level="deny",
        where=("/domain/devices/hostdev[@type='usb'][not(source/address)]",),
        why="Another device of the same make would be taken for it.",
        fix="Name bus and device, and grant it.",
        sfr="FPT_RDM_EXT.1, FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV041",
        level="grant",
        where=("/domain/devices/hostdev[@type='usb'][source/address]",),
        why="A USB device of the host goes to the guest.",
        fix="Grant it to this VM alone.",
        sfr="FPT_RDM_EXT.1, FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV042",
        level="deny",
        where=(
            "/domain/devices/hostdev[@type='pci'][not(@managed='yes')]",
            "/domain/devices/hostdev[@type='pci'][driver/@name][not(driver/@name='vfio')]",
            "/domain/devices/hostdev[rom/@file]",
        ),
        why="A device that is not held by the IOMMU reaches the host's memory.",
        fix="Use managed='yes' with vfio and without a ROM file, and grant it.",
        sfr="FDP_HBI_EXT.1",
    ),
    Rule(
        id="HV042",
        level="grant",
        where=("/domain/devices/hostdev[@type='pci'][@managed='yes']",),
        why="A PCI device of the host goes to the guest; its whole IOMMU group must.",
        fix="Grant it to this VM alone, with the IOMMU on.",
        sfr="FDP_HBI_EXT.1",
    ),
    Rule(
        id="HV043",
        level="deny",
        where=(
            "/domain/devices/hostdev[not(@type='usb' or @type='pci')]",
            "/domain/devices/hostdev[@mode='capabilities']",
            "/domain/devices/smartcard[not(@mode='passthrough' and @type='spicevmc')]",
            "/domain/devices/input[@type='passthrough' or @type='evdev']",
            "/domain/devices/tpm/backend[not(@type='emulator')]",
            "/domain/devices/lease",
        ),
        why="A device of the host, such as its TPM or its keyboard, would be shared with the guest.",
        fix="Remove it; use an emulated TPM.",
        sfr="FDP_PPR_EXT.1",
    ),
    Rule(
        id="HV044",
        level="deny",
        where=("/domain/devices/hub", "/domain/devices/disk[target/@bus='usb']"),
        why="More USB than a VM needs is more to attack.",
        fix="Remove it; use virtio disks.",
        sfr="FPT_DVD_EXT.1",
    ),
    Rule(
        id="HV044",
        level="grant",
        where=(
            "/domain/devices/controller[@type='usb'][not(@model='none')]",
            # libvirt adds one where nobody said that there is none.
            "/domain/devices[not(controller[@type='usb'])]",
        ),
        why="A USB controller that no device needs is more to attack.",
        fix="Use <controller type='usb' model='none'/>.",
        sfr="FPT_DVD_EXT.1",
    ),
)

PARTS = (
    Rule(
        id="HV070",
        level="deny",
        where=(
            "/domain/devices[not(rng)]",
            "/domain/devices/rng[not(rate)]",
            "/domain/devices/rng/backend[not(@model='random' or @model='builtin')]",
            "/domain/devices/rng/backend[@model='random'][not(.='/dev/urandom' or .='/dev/random' or .='/dev/hwrng')]",
        ),
        why="Without entropy a guest's keys can be guessed; without a rate one guest starves the others.",
        fix="Use a virtio rng from /dev/urandom with a rate.",
        sfr="FCS_ENT_EXT.1",
    ),
    Rule(
        id="HV071",
        level="deny",
        where=(
            "/domain/devices/tpm/backend[@type='emulator'][not(@persistent_state='yes')]",
            "/domain/devices/tpm/backend[@type='emulator'][not(encryption/@secret)]",
            "/domain/devices/tpm/backend[@type='emulator'][not(@version='2.0')]",
            "/domain/devices/tpm/backend[active_pcr_banks][not(active_pcr_banks/sha256)]",
        ),
        why="The guest's keys would be lost, or lie open on the host's disk.",
        fix="Use version 2.0, persistent_state='yes', an <encryption secret=.../> and the SHA-256 bank.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV071",
        level="warn",
        where=("/domain/devices[not(tpm)]",),
        why="Without a TPM of its own the guest can neither keep its keys nor prove how it was booted.",
        fix="Add a tpm-crb device with an emulator backend.",
        sfr="FPT_GVI_EXT.1",
    ),
    Rule(
        id="HV072",
        level="deny",
        where=("/domain/devices/memballoon[@autodeflate='on' or @freePageReporting='on']",),
        why="The guest's memory would tell about the host's, and push at it.",
        fix="Use <memballoon model='none'/>.",
        sfr="FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV072",
        level="warn",
        where=(
            "/domain/devices/memballoon[not(@model='none')]",
            "/domain/devices[not(memballoon)]",  # libvirt adds one
        ),
        why="A balloon is a channel between the guest's memory and the host's.",
        fix="Use <memballoon model='none'/>.",
        sfr="FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV083",
        level="warn",
        where=(
            "/domain/devices/disk[not(readonly)][not(@device='cdrom')][not(iotune)]",
            "/domain/devices/interface[not(bandwidth)]",
        ),
        why="The guest may take the whole disk or network from the other VMs.",
        fix="Add <iotune> to what it writes and <bandwidth> to its networks.",
        sfr="FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV084",
        level="deny",
        where=(
            "/domain/devices/interface[model][not(starts-with(model/@type, 'virtio'))]",
            "/domain/devices/*[@model='virtio-transitional' or model/@type='virtio-transitional']",
            "/domain/devices/controller[@type='ide' or @type='fdc' or @type='xenbus' or @type='isa']",
            "/domain/devices/controller[@type='usb'][re:test(@model, 'uhci|ehci')]",
            "/domain/devices/controller[@type='scsi'][@model][not(starts-with(@model, 'virtio'))]",
            "/domain/devices/disk[target/@bus='ide' or target/@bus='fdc']",
            "/domain/devices/disk[target/@bus='sata'][not(@device='cdrom')]",
            "/domain/devices/video[model/@type='cirrus']",
        ),
        why="Old device models are the weakest code of an emulator.",
        fix="Use virtio devices.",
        sfr="FPT_VDP_EXT.1",
    ),
)
