# SPDX-License-Identifier: Apache-2.0
"""From a machine that booted to a host that follows a publisher, and what a verifier and an attacker then ask of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from lab.publisher import VM_NAME
from rig import published
from rig.machine import Machine
from rig.published import Appraisal, Publisher

ATTACK = Path(__file__).with_name("replay_attack.py")
PYTHON = "/usr/lib/vmgate/bin/python3"
PCR0 = "/sys/class/tpm/tpm0/pcr-sha256/0"
AK = "/var/lib/vmgate/tpm/ak.pub"


def port_of(url: str) -> int:
    """The port of a web server on this machine."""
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} names no port")
    return port


def set_up(machine: Machine, publisher: Publisher) -> None:
    """Make releases for this machine's firmware and image, and let it become a host that has applied them.

    Its repository is reached as the machine's ``web``.
    """
    firmware = machine.do(f"cat {PCR0}").strip().lower()
    published.release(publisher, machine.image, (firmware,))
    machine.write("/run/root.json", publisher.desk.anchor.read_bytes())
    machine.do("vmgate init --anchor /run/root.json", 180)
    # The agent is up before libvirtd is asked for, and libvirtd would not start without it.
    machine.do("systemctl start vmgate.service libvirtd.service", 300)
    machine.do("vmgate update apply", 600)


def appraise(machine: Machine, publisher: Publisher, ak: bytes, below: Path, *, chip: bool = False) -> Appraisal:
    """Ask a machine for evidence over a fresh nonce and let the verifier judge it.

    Args:
        machine: running.
        publisher: whose releases it should run.
        ak: its attestation key, as it was enrolled.
        below: a folder for what is sent.
        chip: whether the verifier takes the TPM for a chip, as if its enrolment had shown that. The rig's is software.
    """
    nonce = secrets.token_hex(32)
    machine.do(f"vmgate attest evidence --nonce {nonce} --out /run/evidence", 180)
    (below / "evidence").write_bytes(machine.read("/run/evidence"))
    (below / "ak").write_bytes(ak)
    return publisher.verify(below / "evidence", below / "ak", nonce, chip=chip)


def attack(machine: Machine) -> str:
    """Let an attacker who is root try to open the host's key by all policies; returns what came of it."""
    machine.write("/run/attack.py", ATTACK.read_bytes())
    return machine.do(f"{PYTHON} -I /run/attack.py", 300)


def refused(machine: Machine) -> str:
    """Try to start the VM, which must be refused by `vmgate` and `virsh` alike; returns what `vm why` says."""
    code, said = machine.run(f"vmgate vm start {VM_NAME}", 300)
    if code != 5:
        raise AssertionError(f"vmgate vm start exited {code}: {said}")
    code, said = machine.run(f"virsh start {VM_NAME}", 300)
    if code == 0 or "error[AG010]" not in said:
        raise AssertionError(f"virsh start exited {code}: {said}")
    return machine.run(f"vmgate vm why {VM_NAME}", 120).output


@contextmanager
def laid_over(machine: Machine, path: str, change: str) -> Iterator[None]:
    """Let a changed copy lie over a file of the verified root, as root on a running host can; ``change`` edits it."""
    copy = f"/tmp/{Path(path).name}.changed"
    machine.do(f"cp -p {path} {copy} && {change.format(copy)} && mount --bind {copy} {path}")
    try:
        yield
    finally:
        machine.do(f"umount --lazy {path}")
