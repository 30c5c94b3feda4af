# SPDX-License-Identifier: Apache-2.0
"""A small bootable guest: Debian's cloud kernel, busybox and one script, as a signed UKI in a disk image.

The same inputs give the same bytes: partition and volume ids are fixed, and the tools see a clock that stands still.
RSA keys only, since an ECDSA signature differs each time. Nothing is installed and nothing is mounted.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
BUSYBOX = Path("/bin/busybox")
COMMAND_LINE = "console=ttyS0,115200 quiet loglevel=1 panic=-1"
READY = "vmgate-guest: ready"
HOPELESS = re.compile(r"No bootable option|Access Denied|Kernel panic|emergency mode")
BOOT_GUARD = 150.0
"""Seconds; ten times what a boot takes on an idle machine."""
APPLETS = ("dd", "head", "insmod", "mount", "od", "poweroff", "sh", "tr")
# In the order in which they must be loaded.
MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio-rng",
           "virtio_blk", "button", "evdev")  # fmt: skip
NOW = "2026-01-01 00:00:00"
DISK_ID = "7B3B5A0C-64D1-4E7B-9E55-0D2C2C0F1E01"
PARTITION_ID = "7B3B5A0C-64D1-4E7B-9E55-0D2C2C0F1E02"
VOLUME_ID = "7B3B5A0C"
MIB = 1024 * 1024
Signer = Callable[[Path, Path], None]
"""Signs an EFI program (first) into a file (second)."""
# What would write the present time into its output.
CLOCKED = {"sbsign", "objcopy", "mformat", "mmd", "mcopy"}

INIT = """#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in @MODULES@; do insmod /modules/$module.ko; done
say() { echo "vmgate-guest: $*"; }
read -r build </build
say "build=$build"
say "hwrng=$(od -An -v -tx1 -N16 /dev/hwrng | tr -d ' \\n')"
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    read -r value </sys/class/tpm/tpm0/pcr-sha256/$n
    say "pcr $n=$value"
done | tr A-F a-f
# Between the partition table and the first partition, each boot leaves a word on each disk that it can write.
for disk in /sys/block/vd*; do
    disk=${disk##*/}
    say "disk $disk had=$(dd if=/dev/$disk bs=512 skip=1000 count=1 2>/dev/null | head -c 12 | tr -d '\\0')"
    echo written-here | dd of=/dev/$disk bs=512 seek=1000 conv=notrunc,fsync 2>/dev/null
done
# The kernel's EFI stub left there what it saw (arch/x86/include/uapi/asm/bootparam.h): 3 is enabled.
case $(od -An -v -tu1 -j492 -N1 /sys/kernel/boot_params/data) in *3) say secure-boot=1 ;; *) say secure-boot=0 ;; esac
say ready
# The first event is the power button: nobody sits at the keyboard.
for event in /dev/input/event*; do
    { head -c 24 "$event" >/dev/null; say stopping; poweroff -f; } &
done
wait
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in the guest besides kernel and busybox.

    Attributes:
        init: its script; ``@MODULES@`` stands for ``modules``.
        modules: of the kernel, in the order in which they must be loaded.
        applets: of busybox.
        programs: statically linked, by name.
    """

    init: str = INIT
    modules: tuple[str, ...] = MODULES
    applets: tuple[str, ...] = APPLETS
    programs: Mapping[str, bytes] = field(default_factory=dict)


PLAIN = Contents()


def build(folder: Path, *, build_text: str, kernel_deb: Path, sign: Signer | None, contents: Contents = PLAIN) -> Path:
    """Make ``folder/disk.img``; ``folder`` is made if it is not there and holds what was in between.

    Args:
        folder: where to work.
        build_text: what the guest prints after ``build=``.
        kernel_deb: a ``linux-image-*-cloud-amd64`` package.
        sign: signs an EFI program; the firmware refuses an image that nobody signed.
        contents: what is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kernel = _unpack(folder, kernel_deb, build_text, contents)
    loader = _unified_kernel(folder, kernel)
    if sign is not None:
        signed = folder / "signed.efi"
        sign(loader, signed)
        loader = signed
    shutil.rmtree(folder / "kernel")
    return _disk(folder, loader)


def bare(folder: Path, *, kernel_deb: Path, contents: Contents) -> tuple[Path, Path]:
    """Make a kernel and an initramfs that boot without firmware: in a quarter of the time, where no gate is tested."""
    folder.mkdir(parents=True, exist_ok=True)
    kernel = _unpack(folder, kernel_deb, "bare", contents)
    return kernel, folder / "initrd"


def _unpack(folder: Path, kernel_deb: Path, build_text: str, contents: Contents) -> Path:
    """The kernel; the initramfs lies in ``folder/initrd``."""
    unpacked = folder / "kernel"
    shutil.rmtree(unpacked, ignore_errors=True)
    _run("dpkg-deb", "-x", kernel_deb, unpacked)
    (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
    (folder / "initrd").write_bytes(_initramfs(unpacked, build_text, contents))
    return kernel


def signer(key_pem: Path, cert_pem: Path) -> Signer:
    """Sign with an RSA key in the clear, for tests that bring no key of a publisher."""

    def sign(efi: Path, signed: Path) -> None:
        _run("sbsign", "--key", key_pem, "--cert", cert_pem, "--output", signed, efi)

    return sign


def enrolled_vars(tool: Path, template: Path, cert_pem: Path, out: Path) -> Path:
    """A VARS file whose PK, KEK and db are one certificate, and nothing of anyone else's.

    Args:
        tool: the program ``virt-fw-vars``.
        template: an empty VARS file, such as ``/usr/share/OVMF/OVMF_VARS_4M.fd``.
        cert_pem: the certificate.
        out: the file to make.
    """
    owner = "11111111-2222-3333-4444-123456789abc"
    enrol = [part for name in ("--set-pk", "--add-kek", "--add-db") for part in (name, owner, cert_pem)]
    _run(tool, "--input", template, "--output", out, *enrol, "--secure-boot")
    return out


def cache_folder() -> Path:
    """Where packages and tools were fetched to, once, before the tests."""
    return Path(os.environ.get("VMGATE_CACHE") or Path(__file__).resolve().parents[2] / ".cache")


def cached_kernel() -> Path:
    """The kernel package in the cache."""
    (package,) = cache_folder().glob("debs/linux-image-*-cloud-amd64_*.deb")
    return package


def wait_for(console_log: Path, marker: str) -> str:
    """Wait until a guest printed ``marker``, and return all that it printed.

    Raises:
        GuestFailed: it will not get there, or the hang guard ended the wait.
    """
    deadline = time.monotonic() + BOOT_GUARD
    while True:
        text = console_log.read_text(errors="replace") if console_log.exists() else ""
        if marker in text:
            return text
        if HOPELESS.search(text) or time.monotonic() > deadline:
            raise GuestFailed(text)
        time.sleep(0.05)


class GuestFailed(Exception):
    """What the guest printed."""


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A fresh RSA key and its certificate, as PEM files: for tests that bring no key of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    _run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN={name}",
         "-keyout", key, "-out", cert)  # fmt: skip
    return key, cert


def _run(*command: str | Path) -> None:
    """Run a program under a clock that stands still, and show its output only if it fails."""
    clock = ["faketime", "-f", NOW] if command[0] in CLOCKED else []
    done = subprocess.run(
        [*clock, *command], check=False, capture_output=True, text=True, env=os.environ | {"TZ": "UTC"}
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _initramfs(unpacked: Path, build_text: str, contents: Contents) -> bytes:
    """An archive in cpio's ``newc`` form (kernel: Documentation/driver-api/early-userspace/buffer-format.rst)."""
    archive = io.BytesIO()
    for name in ("bin", "dev", "modules", "proc", "sys"):
        _entry(archive, name, stat.S_IFDIR | 0o755, b"")
    # The kernel opens /dev/console before devtmpfs is there.
    _entry(archive, "dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))
    _entry(archive, "bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    for name in contents.applets:
        _entry(archive, f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox")
    for name, program in sorted(contents.programs.items()):
        _entry(archive, f"bin/{name}", stat.S_IFREG | 0o755, program)
    for name in contents.modules:
        (module,) = unpacked.rglob(f"{name}.ko")
        _entry(archive, f"modules/{name}.ko", stat.S_IFREG | 0o644, module.read_bytes())
    _entry(archive, "build", stat.S_IFREG | 0o644, f"{build_text}\n".encode())
    _entry(
        archive, "init", stat.S_IFREG | 0o755, contents.init.replace("@MODULES@", " ".join(contents.modules)).encode()
    )
    _entry(archive, "TRAILER!!!", 0, b"")
    return archive.getvalue()


def _entry(archive: io.BytesIO, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
    number = archive.tell() + 1
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    archive.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
    archive.write(b"\0" * (-archive.tell() % 4) + data)
    archive.write(b"\0" * (-archive.tell() % 4))


def _unified_kernel(folder: Path, kernel: Path) -> Path:
    """Put command line, initramfs and kernel behind the stub (UAPI.5 Unified Kernel Image)."""
    (folder / "osrel").write_text("ID=vmgate-guest\nNAME=vmgate-guest\n")
    (folder / "cmdline").write_text(COMMAND_LINE)
    parts = {".osrel": folder / "osrel", ".cmdline": folder / "cmdline", ".initrd": folder / "initrd", ".linux": kernel}
    options: list[str | Path] = []
    address = _end_of_image(STUB.read_bytes())
    for name, path in parts.items():
        options += ["--add-section", f"{name}={path}", "--change-section-vma", f"{name}={address:#x}"]
        address = _page(address + path.stat().st_size)
    unsigned = folder / "unsigned.efi"
    _run("objcopy", *options, STUB, unsigned)
    return unsigned


def _end_of_image(pe: bytes) -> int:
    """The first free page after a PE image, as an address with its base (PE/COFF specification, optional header)."""
    header = struct.unpack_from("<I", pe, 0x3C)[0] + 24
    (base,) = struct.unpack_from("<Q", pe, header + 24)
    (size,) = struct.unpack_from("<I", pe, header + 56)
    return _page(base + size)


def _page(address: int) -> int:
    return -(-address // 4096) * 4096


def _disk(folder: Path, loader: Path) -> Path:
    """A GPT disk with one EFI system partition that holds nothing but the loader."""
    size = (loader.stat().st_size // MIB + 2) * MIB
    partition, disk = folder / "esp.fat", folder / "disk.img"
    partition.unlink(missing_ok=True)
    disk.unlink(missing_ok=True)
    _run("mformat", "-C", "-i", partition, "-T", str(size // 512), "-h", "16", "-s", "63", "-N", VOLUME_ID,
         "-v", "VMGATE", "::")  # fmt: skip
    _run("mmd", "-i", partition, "::/EFI", "::/EFI/BOOT")
    _run("mcopy", "-i", partition, loader, "::/EFI/BOOT/BOOTX64.EFI")
    with disk.open("wb") as file:
        file.truncate(size + 2 * MIB)
    script = f"label: gpt\nlabel-id: {DISK_ID}\nstart=1MiB, size={size // 512}, type=uefi, uuid={PARTITION_ID}\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=script, text=True, check=True, capture_output=True)
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(partition.read_bytes())
    return disk
