# SPDX-License-Identifier: Apache-2.0
"""A host whose VMM is an image: mounted, measured, exchanged under running VMs, and refused where it is not itself.

The tests are one story in their order. From the first on, the host has no QEMU of its own; its swtpm stays, since the
host's own TPM is one. KVM is not used; the accelerator is QEMU's emulation.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import AgentSaid
from content.image_mount import is_mounted
from documents.errors import Exit
from lab.publisher import Desk
from lab.refusal import refused_by_agent, unchanged
from lab.world import VM_NAME, World, copied, living, serving

pytestmark = pytest.mark.timeout(400)

EMULATOR = "/usr/bin/qemu-system-x86_64"
COMPONENT = ("component-now", "vmm/image")


@pytest.fixture(scope="module")
def publisher(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    publisher = copied(desk, tmp_path_factory.mktemp("publisher"))
    publisher.build_vmm("vmm-1.img")
    return publisher


@pytest.fixture(scope="module")
def second(publisher: Desk) -> Path:
    """Another image."""
    return publisher.build_vmm("vmm-2.img", _package(publisher.folder))


def _package(folder: Path) -> Path:
    """What makes another image of it."""
    tree = folder / "extra"
    (tree / "usr/share/qemu").mkdir(parents=True)
    (tree / "usr/share/qemu/extra.rom").write_bytes(b"of the second image\n")
    (tree / "DEBIAN").mkdir()
    control = "Package: extra\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    deb = folder / "extra_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
    return deb


@pytest.fixture(scope="module")
def world(publisher: Desk) -> Iterator[World]:
    with serving(publisher.repository) as url, living("vmm", publisher, url) as world:
        world.run("update", "apply")
        with pytest.MonkeyPatch.context() as patch:
            # libvirt looks for swtpm on its PATH; systemd would be told so in libvirtd's unit.
            patch.setenv("PATH", f"{world.root}/run/vmgate/vmm/current/bin:{os.environ['PATH']}")
            subprocess.run(["mount", "--bind", "/dev/null", EMULATOR], check=True)
            world.libvirt.restart_libvirtd()
            yield world
            world.kill_vm()
            subprocess.run(["umount", EMULATOR], check=True)


def _release(world: World, image: str, memory: int = 1024) -> str:
    """Publish a platform with an image and update to it; returns what the update said."""
    path = world.desk.folder / image
    world.desk.release(world.desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=memory, image=path))
    return world.run("update", "apply")


def _mounted(world: World) -> list[str]:
    """The digests of the mounted images."""
    return sorted(path.name for path in (world.root / "run/vmgate/vmm").iterdir() if is_mounted(path))


def _current(world: World) -> Path:
    return (world.root / "run/vmgate/vmm/current").resolve()


def _mapped(name: str) -> set[Path]:
    """The folders of images that QEMU and swtpm of a VM have files of; and each file of the host's programs."""
    (swtpm,) = Path("/run/libvirt/qemu/swtpm").glob(f"*-{name}-swtpm.pid")
    found = set()
    for pid_file in (Path(f"/run/libvirt/qemu/{name}.pid"), swtpm):
        lines = Path(f"/proc/{int(pid_file.read_text())}/maps").read_text().splitlines()
        files = {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6 and fields[5][0] == "/"}
        for path in files:
            image = path.partition("/run/vmgate/vmm/")
            if image[1]:
                found.add(Path(image[0] + image[1] + image[2].partition("/")[0]))
            elif path.startswith(("/usr/", "/lib/", "/lib64/", "/bin/")):
                found.add(Path(path))
    return found


def test_a_host_takes_its_vmm_from_an_image_without_a_reboot(world: World) -> None:
    said = _release(world, "vmm-1.img")
    assert "platform: release 2" in said
    measured = [subject for pcr, event, subject in world.events() if (pcr, event) == (13, "component")]
    assert measured[-6:] == [
        "repository", "vmm/image", "vmm/firmware-vars", "vmgate/build", "vmgate/hook", "vmgate/security-policy",
    ]  # fmt: skip
    assert _mounted(world) == [world.stored("vmm-image").name]
    assert _current(world).name == world.stored("vmm-image").name
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.host.console_until("vmgate-guest: ready", VM_NAME)
    assert _mapped(VM_NAME) == {_current(world)}
    findings = world.ask("vm/why", name=VM_NAME)["verdict"]["findings"]
    now = {finding["subject"]: finding for finding in findings if finding["check"] == "component-now"}
    # What keeps the store keeps the image; here not much, since tests lie below a folder of everybody's.
    assert now["vmm/image"]["kept"] == now["vmm/firmware-vars"]["kept"] != ""
    world.kill_vm()


@pytest.fixture(autouse=True)
def off(world: World) -> Iterator[None]:
    yield
    world.kill_vm()


@contextmanager
def _flipped(world: World) -> Iterator[None]:
    """One bit of the image's file, in the middle of it."""
    path = world.stored("vmm-image")
    with path.open("r+b") as file:
        place = path.stat().st_size // 2
        file.seek(place)
        byte = file.read(1)
        for value in (bytes([byte[0] ^ 1]), byte):
            file.seek(place)
            file.write(value)
            file.flush()
            if value != byte:
                yield


@contextmanager
def _laid(source: Path, target: Path, *options: str) -> Iterator[None]:
    subprocess.run(["mount", *(options or ("--bind",)), source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@contextmanager
def _gone(world: World) -> Iterator[None]:
    """No mount and so no loop device any more: the kernel frees it with its last user."""
    subprocess.run(["umount", _current(world)], check=True)
    yield
    assert world.run("update", "apply").startswith("up to date\n")


@contextmanager
def _copied(world: World) -> Iterator[None]:
    """The same bytes, in a file that others may write to, before their turn comes."""
    copy = world.folder / "copy.img"
    copy.write_bytes(world.stored("vmm-image").read_bytes())
    current = _current(world)
    subprocess.run(["umount", current], check=True)
    with _laid(copy, current, "-t", "erofs", "-o", "ro,loop"):
        yield
    world.run("update", "apply")


@contextmanager
def _folder(world: World) -> Iterator[None]:
    """A folder of somebody's over the image."""
    other = world.folder / "other"
    (other / "bin").mkdir(parents=True, exist_ok=True)
    with _laid(other, _current(world)):
        yield


@contextmanager
def _program(world: World) -> Iterator[None]:
    """One program within the image."""
    with _laid(Path("/bin/true"), _current(world) / "bin/qemu-system-x86_64"):
        yield


@pytest.mark.parametrize(
    "attack",
    [_flipped, _gone, _program, *(pytest.param(attack, marks=pytest.mark.long) for attack in (_copied, _folder))],
)
def test_an_image_that_is_not_itself_starts_nothing(world: World, attack: object) -> None:
    with attack(world), unchanged(world):  # type: ignore[operator]  # each of the functions above
        assert refused_by_agent(world)[0] == COMPONENT
    # While the image was away libvirt may have found another swtpm, which it remembers.
    world.libvirt.restart_libvirtd()
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    assert _mapped(VM_NAME) == {_current(world)}


def test_a_vm_whose_swtpm_is_not_the_images_is_switched_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[2])
    world.libvirt.restart_libvirtd()
    with pytest.raises(AgentSaid) as refusal:
        world.ask("vm/start", name=VM_NAME)
    assert refusal.value.status == Exit.REFUSED
    assert "found swtpm is /usr/bin/swtpm" in refusal.value.line()
    assert world.vm_state() == "shut off"
    refused, stopped = world.trail()[-2:]
    assert (refused.event, refused.outcome, dict(refused.details)["check"]) == ("vm-start", "refused", "vmm-processes")
    assert (stopped.event, stopped.outcome) == ("vm-stop", "done")
    monkeypatch.undo()
    world.libvirt.restart_libvirtd()
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    world.kill_vm()


@pytest.mark.long
def test_another_image_in_the_same_place_starts_nothing(world: World, second: Path) -> None:
    """As whoever wants an old QEMU back would do it."""
    current = _current(world)
    subprocess.run(["umount", current], check=True)
    with _laid(second, current, "-t", "erofs", "-o", "ro,loop"), unchanged(world):
        assert refused_by_agent(world)[0] == COMPONENT
    world.run("update", "apply")
    world.libvirt.restart_libvirtd()


@pytest.mark.long
@pytest.mark.usefixtures("second")
def test_a_vm_that_runs_keeps_its_image_until_it_stops(world: World) -> None:
    # One live switch in a boot is signed for, and the first test had it.
    world.host.power_cycle()
    world.host.start_agent()
    world.ask("vm/start", name=VM_NAME)
    world.host.console_until("vmgate-guest: ready", VM_NAME)
    first, file = _current(world), world.stored("vmm-image")
    _release(world, "vmm-2.img")
    second = _current(world)
    assert second != first
    assert _mapped(VM_NAME) == {first}
    # The generation before that has the first image goes, and neither its mount nor its file with it.
    world.desk.release(world.desk.write_workload(title="the second", image="hello-1.img", accepts=(1, 9)))
    world.run("update", "apply")
    assert _mounted(world) == sorted([first.name, second.name])
    assert file.exists()
    assert world.vm_state() == "running"
    world.kill_vm()
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    assert _mapped(VM_NAME) == {second}
    assert (second / "usr/share/qemu/extra.rom").read_bytes() == b"of the second image\n"
    world.kill_vm()


@pytest.mark.long
def test_an_image_that_nothing_needs_any_more_goes(world: World) -> None:
    assert world.run("update", "apply").startswith("up to date\n")
    assert _mounted(world) == [_current(world).name]
    assert world.stored("vmm-image").name == _current(world).name


@pytest.mark.long
def test_a_stale_mount_in_the_place_of_the_new_image_is_refused(world: World) -> None:
    stale = world.folder / "stale"
    stale.mkdir()
    with (
        _laid(world.desk.folder / "vmm-1.img", stale, "-t", "erofs", "-o", "ro,loop"),
        _laid(stale, _current(world)),
        unchanged(world),
    ):
        assert refused_by_agent(world)[0] == COMPONENT
    world.libvirt.restart_libvirtd()


def test_after_a_power_cut_the_image_is_mounted_before_anything_starts(world: World) -> None:
    image = world.stored("vmm-image").name
    world.host.power_cycle()
    assert not (world.root / "run").exists()
    world.host.start_agent()
    assert _mounted(world) == [image]
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
    assert _mapped(VM_NAME) == {_current(world)}


@pytest.mark.long
def test_the_way_back_is_the_way_back_to_the_earlier_image(world: World) -> None:
    second = _current(world)
    _release(world, "vmm-1.img", memory=512)
    assert _current(world) != second
    assert "next boot" in world.run("update", "rollback")
    assert world.stored("vmm-image").name == second.name
    world.host.power_cycle()
    world.host.start_agent()
    assert _current(world) == second
    assert world.ask("vm/start", name=VM_NAME)["status"] == "warning"
