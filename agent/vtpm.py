# SPDX-License-Identifier: Apache-2.0
"""Which TPM a VM has: made by vmgate before the VM's first start, told by its endorsement key, and always the same one.

A VM's TPM is swtpm's, and its state is encrypted with the VM's key. libvirt makes a state only where there is none;
here it is made first, so that its endorsement key is known before the guest runs. At each start the key is read from a
copy of the state, by a swtpm of its own that runs for a moment under swtpm's account: the state itself is not touched.

Not promised: that nobody with root's power exchanges the state between this reading and libvirt's opening. Whoever does
needs the VM's key as well. This module does not open that key and does not log.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent import vtpm_wire
from agent.vm_errors import GuestTpmChanged, GuestTpmFailed
from content import durable
from content.errors import Missing
from content.owner import give
from documents.definition import VmDefinition
from documents.host_state import VmTpm

STATES = Path("/var/lib/libvirt/swtpm")
"""Where libvirt keeps the states of VMs' TPMs, by the VM's UUID."""

ACCOUNT = "tss"
"""Whom libvirt runs swtpm as (``swtpm_user``, qemu.conf)."""

STATE_FILE = "tpm2-00.permall"
MAX_STATE = 1_000_000
CIPHER = "aes-256-cbc"
"""As libvirt's (``qemuTPMEmulatorBuildCommand``)."""

RESTORING = "restoring"
"""A file in a VM's folder while its disks and its TPM are of two moments (``agent.checkpoints``)."""

SETUP_SECONDS = 120
ANSWER_SECONDS = 20


class GuestTpms:
    """The TPMs of this host's VMs.

    Args:
        states: the folder of libvirt's.
    """

    def __init__(self, states: Path = STATES) -> None:
        self._states = states

    def settle(self, definition: VmDefinition, folder: Path, secret: str, programs: Path | None = None) -> str:
        """The endorsement key's digest (``VmTpm``) of the TPM that a VM is about to start with.

        Args:
            definition: of the VM.
            folder: of the VM's own files on this host.
            secret: the VM's key, as libvirt will get it.
            programs: where swtpm and swtpm_setup lie; None for where the host has them.

        Raises:
            GuestTpmChanged: it is not the VM's; nothing was changed.
            GuestTpmFailed: it could not be made or read.
        """
        note, state = folder / "vtpm.json", self._states / definition.uuid / "tpm2"
        known = _noted(note, definition)
        if (folder / RESTORING).exists():
            raise GuestTpmChanged(
                f"the TPM of {definition.name} is of another moment than its disks",
                cause="going back to a checkpoint was cut off",
                remedy=f"`vmgate vm restore {definition.name} NUMBER` again",
            )
        if not (state / STATE_FILE).exists():
            if known is not None:
                raise GuestTpmChanged(
                    f"the TPM of {definition.name} is gone",
                    cause=f"{state} holds no state, and the VM has been started with one",
                    remedy=f"put its state back; without it, remove {note}: the VM then gets a new TPM",
                )
            self._make(definition, state, secret, programs)
        found = self._read(state, secret, programs)
        if known is None:
            durable.write_file(note, VmTpm(uuid=definition.uuid, endorsement=found).encode())
        elif found != known:
            raise GuestTpmChanged(
                f"the TPM of {definition.name} is another one",
                cause=f"its endorsement key is {found} and was {known}",
                remedy=f"put its state back into {state}",
            )
        return found

    def identify(self, state: Path, secret: str, programs: Path | None = None) -> str:
        """The endorsement key of the TPM whose state lies in a folder, which swtpm's account may pass through to.

        Raises:
            GuestTpmFailed: it does not open with that key.
        """
        return self._read(state, secret, programs)

    def put(self, uuid: str, state: Path) -> None:
        """Put a state in the place of a VM's; one that is there goes. Whether it is the VM's, the caller found out."""
        place = self._states / uuid / "tpm2"
        durable.make_directory(place.parent, 0o711)
        durable.sweep(place.parent)
        fresh = durable.temporary(place.parent)
        durable.make_directory(fresh)
        durable.copy_file(state, fresh / STATE_FILE)
        give(fresh / STATE_FILE, ACCOUNT)
        give(fresh, ACCOUNT)
        durable.sync_directory(fresh)
        durable.remove_tree(place)
        durable.rename(fresh, place)

    def remove(self, definition: VmDefinition) -> None:
        """Remove the state of a VM's TPM, if there is one."""
        durable.remove_tree(self._states / definition.uuid)

    def _make(self, definition: VmDefinition, state: Path, secret: str, programs: Path | None) -> None:
        """Make a state, as libvirt would. It gets its name when it is whole, so that no cut leaves half of one."""
        durable.make_directory(state.parent, 0o711)
        durable.sweep(state.parent)
        fresh = durable.temporary(state.parent)
        durable.make_directory(fresh)
        give(fresh, ACCOUNT)
        with _pipe(secret) as key:
            _run(
                [
                    _program("swtpm_setup", programs),
                    "--tpm2",
                    *("--tpmstate", str(fresh)),
                    *("--vmid", f"{definition.name}:{definition.uuid}"),
                    "--create-ek-cert",
                    "--create-platform-cert",
                    "--lock-nvram",
                    "--not-overwrite",
                    *("--pwdfile-fd", str(key)),
                    *("--cipher", CIPHER),
                ],
                key,
            )
        # Whose it is already; and its bytes are durable before anything says that they are the VM's.
        give(fresh / STATE_FILE, ACCOUNT)
        durable.sync_directory(fresh)
        durable.remove_tree(state)
        durable.rename(fresh, state)

    def _read(self, state: Path, secret: str, programs: Path | None) -> str:
        """The endorsement key of a copy of a state."""
        untrusted_state = _read_state(state / STATE_FILE)
        durable.sweep(state.parent)
        copy = durable.temporary(state.parent)
        durable.make_directory(copy)
        try:
            durable.write_file(copy / STATE_FILE, untrusted_state)
            give(copy / STATE_FILE, ACCOUNT)
            give(copy, ACCOUNT)
            with _pipe(secret) as key, _serving(copy, key, _program("swtpm", programs)) as ours:
                return vtpm_wire.endorsement(_certificate(ours))
        finally:
            # Ours again, so that nobody exchanges what is being removed.
            give(copy, "root")
            durable.remove_tree(copy)


def _noted(note: Path, definition: VmDefinition) -> str | None:
    try:
        noted = VmTpm.parse(durable.read_file(note, VmTpm.LIMIT))
    except Missing:
        return None
    if noted.uuid != definition.uuid:
        raise GuestTpmChanged(
            f"the TPM of {definition.name} is another one",
            cause=f"{note} is about the VM {noted.uuid}",
            remedy="put the file of this VM back",
        )
    return noted.endorsement


def _read_state(path: Path) -> bytes:
    """A state's file. Whose folder it is may be a guest's prey: a link could point to what only root may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed("read", str(error)) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > MAX_STATE:
            raise _failed("read", f"{path} is no plain file of one name and at most {MAX_STATE} bytes")
        return file.read(MAX_STATE)


@contextmanager
def _pipe(secret: str) -> Iterator[int]:
    """A descriptor that gives a key once; it is in no file and on no command line."""
    reader, writer = os.pipe()
    try:
        try:
            # Far less than a pipe holds, so that nobody need read it for this to return.
            os.write(writer, secret.encode())
        finally:
            os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _program(name: str, folder: Path | None) -> str:
    return name if folder is None else str(folder / name)


def _run(command: list[str], key: int) -> None:
    try:
        done = subprocess.run(
            command, pass_fds=[key], stdin=subprocess.DEVNULL, capture_output=True, timeout=SETUP_SECONDS, check=False,
            user=ACCOUNT, group=ACCOUNT, extra_groups=[], cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed("made", str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise _failed("made", said[-1] if said else f"{command[0]} exited {done.returncode}")


@contextmanager
def _serving(folder: Path, key: int, program: str) -> Iterator[socket.socket]:
    """A swtpm over a state for the time of a block; it has no name in any file system."""
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        command = [
            program,
            "socket",
            "--tpm2",
            *("--tpmstate", f"dir={folder}"),
            *("--fd", str(theirs.fileno())),
            *("--key", f"pwdfd={key},mode={CIPHER}"),
            *("--flags", "not-need-init,startup-clear"),
        ]
        try:
            process = subprocess.Popen(
                command, pass_fds=[key, theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, user=ACCOUNT, group=ACCOUNT, extra_groups=[], cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise _failed("read", str(error)) from error
        theirs.close()
        ours.settimeout(ANSWER_SECONDS)
        try:
            yield ours
        finally:
            process.kill()
            process.wait()


def _certificate(connection: socket.socket) -> bytes:
    size = vtpm_wire.read_size(_answer(connection, vtpm_wire.ask_size()))
    certificate = b""
    while len(certificate) < size:
        length = min(vtpm_wire.PIECE, size - len(certificate))
        answer = _answer(connection, vtpm_wire.ask_piece(len(certificate), length))
        certificate += vtpm_wire.read_piece(answer, length)
    return certificate


def _answer(connection: socket.socket, command: bytes) -> bytes:
    untrusted = b""
    try:
        connection.sendall(command)
        while not vtpm_wire.whole(untrusted):
            part = connection.recv(vtpm_wire.MAX_RESPONSE)
            if not part:
                raise _failed("read", "swtpm did not open it with the VM's key")
            untrusted += part
    except OSError as error:
        raise _failed("read", str(error) or "swtpm does not answer") from error
    return untrusted


def _failed(act: str, cause: str) -> GuestTpmFailed:
    return GuestTpmFailed(
        f"the VM's TPM was not {act}", cause=" ".join(cause.split())[:300], remedy="see `vmgate explain AG041`"
    )
