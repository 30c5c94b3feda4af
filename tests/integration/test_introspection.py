# SPDX-License-Identifier: Apache-2.0
"""A real guest is read from its memory on stock libvirt and QEMU, goes on, and a planted change is found."""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from documents.definition import Disk, VmDefinition
from hypervisor.domain import Placement, render
from hypervisor.errors import DomainMissing, HypervisorError, TypesMalformed
from hypervisor.introspection.drift import compare
from hypervisor.introspection.elf_core import ElfCore
from hypervisor.introspection.kernel import Kernel, find_kernel
from hypervisor.introspection.reader import memory_image, read_guest
from hypervisor.libvirt import Hypervisor
from lab import guest_image
from lab.libvirt_host import LibvirtHost, running

pytestmark = pytest.mark.timeout(240)

VM = "read"
SECRET = "11111111-1111-4111-8111-111111111112"
LOADER = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
EMPTY_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SIZE = 320 * 1024 * 1024
UNUSED_CALL = 334
"""rseq(2): nothing in the guest calls it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A guest that has booted, and the libvirt that runs it."""

    host: LibvirtHost
    hypervisor: Hypervisor
    folder: Path

    def read(self, view: str, digest: str = "") -> Any:
        with memory_image(SIZE, lambda path: self.hypervisor.dump_memory(VM, path)) as image:
            return read_guest(image, view, digest)


@pytest.fixture(scope="module")
def guest() -> Iterator[Reading]:
    # Not pytest's folder: QEMU's user may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="vmgate-introspection-"))
    folder.chmod(0o755)
    try:
        key, cert = guest_image.self_signed(folder / "keys", "test")
        tool = guest_image.cache_folder() / "tools/bin/virt-fw-vars"
        sign = guest_image.signer(key, cert)
        kernel = guest_image.cached_kernel()
        image = guest_image.build(folder / "image", build_text="read me", kernel_deb=kernel, sign=sign)
        guest_image.enrolled_vars(tool, EMPTY_VARS, cert, folder / "vars.fd")
        definition = VmDefinition(
            name=VM,
            uuid="22222222-2222-4222-8222-000000000777",
            title="",
            machine="pc-q35-7.2",
            vcpus=1,
            memory_mib=256,
            disks=(Disk(name="system", image="0" * 64, length=1, disk_class="readonly"),),
            guardians=("tpm",),
            introspection="",
        )
        placement = Placement(
            emulator=Path("/usr/bin/qemu-system-x86_64"),
            firmware_code=LOADER,
            firmware_vars=folder / "vars.fd",
            disks={"system": image},
            console_log=folder / "console.log",
            accelerator="emulation",
            vtpm_secret=SECRET,
        )
        with running(folder / "libvirt") as host:
            hypervisor = Hypervisor.open()
            hypervisor.define(render(definition, placement))
            hypervisor.set_secret(SECRET, definition.uuid, b"ab" * 32)
            hypervisor.start(VM)
            guest_image.wait_for(placement.console_log, guest_image.READY)
            yield Reading(host=host, hypervisor=hypervisor, folder=folder)
            hypervisor.kill(VM)
    finally:
        shutil.rmtree(folder)


def images() -> list[str]:
    """Images of memory that this process still holds."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if "vmgate-guest-memory" in link]


def test_tasks_and_modules_of_a_guest_that_knows_nothing_of_it(guest: Reading) -> None:
    found = guest.read("tasks")
    tasks = {task["pid"]: task for task in found["tasks"]}
    assert tasks[1] == {"pid": 1, "uid": 0, "kernel": False, "listed": True, "name": "init"}
    assert tasks[2] == {"pid": 2, "uid": 0, "kernel": True, "listed": True, "name": "kthreadd"}
    assert "head" in {task["name"] for task in found["tasks"]}
    assert found["ended"] == "whole"

    modules = guest.read("modules", found["btf"])
    assert {module["name"] for module in modules["modules"]} == {name.replace("-", "_") for name in guest_image.MODULES}
    assert guest.hypervisor.state(VM) == "running"
    assert not images()
    with pytest.raises(TypesMalformed, match=r"definition wants 0{64}"):
        guest.read("tasks", "0" * 64)
    assert not images()


def test_a_planted_syscall_and_a_planted_byte_of_code_are_found(guest: Reading) -> None:
    run = guest.hypervisor.run_number(VM)
    first, baseline = compare(guest.read("integrity"), None, run)
    clean: Any
    clean, baseline = compare(guest.read("integrity"), baseline, run)
    assert (clean["baseline"], clean["text"]["changed"], clean["rodata"]["changed"]) == ("compared", [], [])
    assert clean["syscalls"]["outside"] == clean["interrupts"]["outside"] == []
    assert clean["syscalls"]["count"] > 400
    assert first["base"] == clean["base"]

    table, text, data = _places(guest)
    _plant(guest, table + 8 * UNUSED_CALL, struct.pack("<Q", data))
    _plant(guest, text, b"\x90")
    found: Any
    found, _ = compare(guest.read("integrity"), baseline, run)
    assert found["syscalls"]["outside"] == [f"{UNUSED_CALL}:{data:x}"]
    assert found["rodata"]["changed"] == [f"{(table + 8 * UNUSED_CALL) & ~4095:x}"]
    assert found["text"]["changed"] == [f"{text & ~4095:x}"]
    assert guest.hypervisor.state(VM) == "running"


def test_a_module_that_is_taken_out_of_the_kernels_list_is_told_to_hide(guest: Reading) -> None:
    kernel = _kernel(guest)
    at = kernel.types.offset("module", "list")
    first = kernel.space.word(kernel.symbol("modules"))
    name = kernel.space.read(first - at + kernel.types.offset("module", "name"), 56).partition(b"\0")[0].decode()
    _plant(guest, kernel.symbol("modules"), kernel.space.read(first, 8))
    found = guest.read("modules")
    assert [module["name"] for module in found["modules"] if not module["listed"]] == [name]
    assert (len(found["modules"]), found["ended"]) == (len(guest_image.MODULES), "whole")


def test_a_task_that_is_taken_out_of_the_kernels_list_is_told_to_hide(guest: Reading) -> None:
    kernel = _kernel(guest)
    at = kernel.symbol("init_task") + kernel.types.offset("task_struct", "tasks")
    _plant(guest, at, kernel.space.read(kernel.space.word(at), 8))
    found = guest.read("tasks")
    assert [(task["pid"], task["name"]) for task in found["tasks"] if not task["listed"]] == [(1, "init")]
    assert found["ended"] == "whole"


def test_what_is_off_or_unknown_is_not_read(guest: Reading) -> None:
    with pytest.raises(DomainMissing), memory_image(SIZE, lambda path: guest.hypervisor.dump_memory("other", path)):
        pass
    guest.hypervisor.kill(VM)
    with pytest.raises(HypervisorError):
        guest.read("tasks")
    assert not images()


def _places(guest: Reading) -> tuple[int, int, int]:
    """The syscall table, a byte of code that nothing runs (filled with INT3), and an address in the data."""
    kernel = _kernel(guest)
    return kernel.symbol("sys_call_table"), kernel.symbol("_etext") - 1, kernel.symbol("init_task")


def _kernel(guest: Reading) -> Kernel:
    """What the attacker of a test knows about the guest."""
    path = guest.folder / "core"
    path.touch()
    guest.hypervisor.dump_memory(VM, path)
    kernel = find_kernel(ElfCore(path.read_bytes()))
    path.unlink()
    return kernel


def _plant(guest: Reading, address: int, data: bytes) -> None:
    """Write to the guest's memory past its page protection, by QEMU's stub for debuggers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    guest.host.virsh("qemu-monitor-command", VM, "--hmp", f"gdbserver tcp:127.0.0.1:{port}")
    packet = f"M{address:x},{len(data):x}:{data.hex()}".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stub, stub.makefile("rb") as answers:
        for said in (packet, b"D"):
            stub.sendall(b"$%s#%02x" % (said, sum(said) % 256))
            # Before it comes what stopped the guest: this connection.
            heard = b""
            while not heard.endswith(b"$OK#9a"):
                heard += answers.read(1)
                assert len(heard) < 200, heard
            stub.sendall(b"+")
    guest.host.virsh("qemu-monitor-command", VM, "--hmp", "gdbserver none")
