# SPDX-License-Identifier: Apache-2.0
"""A libvirt of the tests' own: own folders, own daemons, and the machine's libvirt untouched.

``enter_namespace`` gives the calling process a mount namespace in which libvirt's folders are empty ones; the process
and what it starts afterwards see these. ``LibvirtHost`` runs the daemons there. Only their own processes are ended.
Known limits: no AppArmor here, and no control groups (two private libvirts would meet in them).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDERS = (
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/run/libvirt",
    "/var/log/libvirt",
    "/var/cache/libvirt",
    "/var/log/swtpm",
    "/var/lib/swtpm-localca",
)
PRIVATE = "/var/lib/libvirt/.vmgate-private"
KVM = Path("/dev/kvm")
START_GUARD = 150.0
STOP_GUARD = 30.0
MOST_CRASHES = 3

# What works without AppArmor and without control groups; the rest of the hardening is checked on real hosts.
QEMU_CONF = """security_driver = "none"
user = "libvirt-qemu"
group = "kvm"
dynamic_ownership = 1
remember_owner = 1
seccomp_sandbox = 1
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
max_core = 0
dump_guest_core = 0
relaxed_acs_check = 0
vnc_auto_unix_socket = 1
mac_filter = 1
set_process_name = 1
"""
LIBVIRTD_CONF = """auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
host_uuid = "5c0ffee0-1ab0-4e57-8b3d-0123456789ab"
log_outputs = "2:stderr"
"""
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(folder: Path) -> None:
    """Move this process into a mount namespace with libvirt folders of its own; each call gives it fresh ones.

    Call it from the main thread, before other threads. The namespace stays; the mounts end with ``leave_folders`` or
    with the process. A folder of libvirt's that the machine does not have is made, since something must be mounted on.

    Args:
        folder: where the folders lie; QEMU's user must be able to enter it.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount(None, "/", _MS_REC | _MS_PRIVATE)
    # Sockets and pid files of this host only; nothing of it stays behind on the machine.
    _check(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None), "mount /run")
    for target in FOLDERS:
        Path(target).mkdir(parents=True, exist_ok=True)
        source = folder / target.strip("/").replace("/", "-")
        source.mkdir(parents=True, exist_ok=True)
        source.chmod(0o755)
        _mount(str(source), target, _MS_BIND)
    if KVM.exists():
        _open_kvm()
    Path(PRIVATE).touch()
    # swtpm_setup runs as this user and keeps its local CA there.
    shutil.chown("/var/lib/swtpm-localca", "tss", "root")
    for name, text in {"qemu.conf": QEMU_CONF, "libvirtd.conf": LIBVIRTD_CONF, "virtlogd.conf": ""}.items():
        Path("/etc/libvirt", name).write_text(text)
    Path("/etc/libvirt/hooks").mkdir()


def _open_kvm() -> None:
    """Let QEMU's user open /dev/kvm, whatever group the machine gave it.

    libvirt itself may open it. If QEMU may not, what libvirt learnt about QEMU never fits, and it asks anew each time.
    """
    node = Path("/run/kvm")
    os.mknod(node, stat.S_IFCHR, KVM.stat().st_rdev)
    node.chmod(0o666)
    _mount(str(node), str(KVM), _MS_BIND)


def leave_folders() -> None:
    """Take the folders away again, before what they lie on is removed: on a removed folder nothing can be mounted."""
    for target in (*([str(KVM)] if KVM.exists() else []), *reversed(FOLDERS), "/run"):
        _check(_libc.umount2(target.encode(), _MNT_DETACH), f"umount {target}")


def _mount(source: str | None, target: str, flags: int) -> None:
    _check(_libc.mount(source and source.encode(), target.encode(), None, flags, None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


class LibvirtHost:
    """virtlogd and libvirtd of this namespace; see ``running``."""

    def __init__(self) -> None:
        if not Path(PRIVATE).exists():
            raise RuntimeError("this process is not in a namespace of its own: call enter_namespace first")
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def hook(self) -> Path:
        """Where libvirt looks for the hook; it reads that only when it starts."""
        return Path("/etc/libvirt/hooks/qemu")

    def start(self) -> None:
        """Start both daemons and wait until libvirt answers."""
        self._start("virtlogd")
        self._start("libvirtd")
        self._wait_until_it_answers()

    def restart_libvirtd(self) -> None:
        """As after a package upgrade; VMs go on running."""
        self.stop_libvirtd()
        self.start_libvirtd()

    def stop_libvirtd(self) -> None:
        """Take libvirtd away; VMs go on running."""
        self._stop("libvirtd")

    def kill_libvirtd(self) -> None:
        """End libvirtd as a crash would; VMs go on running."""
        daemon = self._daemons.pop("libvirtd")
        daemon.kill()
        daemon.wait()

    def start_libvirtd(self) -> None:
        """Bring libvirtd back and wait until it answers."""
        self._start("libvirtd")
        self._wait_until_it_answers()

    def install_hook(self, text: str) -> None:
        """Put a hook in place and let libvirtd see it."""
        self.hook.write_text(text)
        self.hook.chmod(stat.S_IRWXU)
        self.restart_libvirtd()

    def remove_hook(self) -> None:
        """Take the hook away under a running libvirtd, which still looks for it."""
        self.hook.unlink(missing_ok=True)

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run virsh as an administrator would."""
        command = ["virsh", "-q", "-c", "qemu:///system", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if check and done.returncode:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr}")
        return done

    def stop(self) -> None:
        """End all VMs, both daemons, and whatever a killed libvirtd left behind."""
        left = [*Path("/run/libvirt/qemu").glob("*.pid"), *Path("/run/libvirt/qemu/swtpm").glob("*.pid")]
        processes = {int(text) for path in left if (text := path.read_text().strip()).isdigit()}
        self._stop("libvirtd")
        for process in processes:
            if _is_ours(process):
                os.kill(process, signal.SIGKILL)
        self._stop("virtlogd")

    def _start(self, name: str) -> None:
        log = Path("/var/log/libvirt", f"{name}.log").open("ab")  # noqa: SIM115 (the daemon's, closed below)
        with log:
            self._daemons[name] = subprocess.Popen(
                [f"/usr/sbin/{name}", "-f", f"/etc/libvirt/{name}.conf", "-p", f"/run/libvirt/{name}.pid"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (it is one system call)
            )

    def _stop(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(STOP_GUARD)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _wait_until_it_answers(self) -> None:
        deadline, crashes = time.monotonic() + START_GUARD, 0
        while self.virsh("uri", check=False).returncode:
            ended = self._daemons["libvirtd"].poll()
            if ended is not None and ended < 0 and crashes < MOST_CRASHES:
                # libvirt 9.0 falls over its own threads at a start now and then ("daemon-init" in the kernel's log).
                crashes += 1
                self._start("libvirtd")
            elif ended is not None or time.monotonic() > deadline:
                told = "is busy" if ended is None else f"ended with {ended}"
                raise RuntimeError(f"libvirtd does not answer and {told}; see /var/log/libvirt/libvirtd.log")
            time.sleep(0.05)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_ours(process: int) -> bool:
    """A pid file may be stale: the process must be QEMU or swtpm, and of this mount namespace."""
    try:
        name = Path(f"/proc/{process}/comm").read_text()
        same = Path(f"/proc/{process}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False
    return same and name.startswith(("qemu", "swtpm"))


@contextmanager
def running(folder: Path) -> Iterator[LibvirtHost]:
    """A private libvirt for the time of a ``with`` block.

    Args:
        folder: where its folders lie; it is made. Not under a folder that QEMU's user cannot enter.
    """
    enter_namespace(folder)
    host = LibvirtHost()
    try:
        host.start()
        yield host
    finally:
        host.stop()
        leave_folders()
