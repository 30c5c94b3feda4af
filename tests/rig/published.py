# SPDX-License-Identifier: Apache-2.0
"""A publisher of the rig's host, and a verifier outside of it.

The publisher sees the image's parts and its packages and nothing of any machine. The verifier sees releases, what they
name, and the evidence that a machine sends. This module boots nothing.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lab.guest_image import cache_folder
from lab.publisher import VMGATE, Desk
from rig import layout
from rig.attacked import cut
from rig.image import Image


@dataclass(frozen=True, slots=True)
class Publisher:
    """A publisher with one platform release for hosts of an image, and one workload release with one VM.

    Attributes:
        desk: where releases are made.
    """

    desk: Desk

    @property
    def platform(self) -> Path:
        """The platform's release document."""
        return self._release("platform")

    @property
    def workload(self) -> Path:
        """The workload's release document."""
        return self._release("workload")

    def artifact(self, kind: str) -> Path:
        """The platform's artifact of a kind."""
        artifacts = json.loads(self.platform.read_bytes())["artifacts"]
        (digest,) = {artifact["fsverity"] for artifact in artifacts if artifact["kind"] == kind}
        return self.desk.repository / "blobs" / digest[:2] / digest

    def _release(self, channel: str) -> Path:
        (path,) = (self.desk.repository / "targets/releases" / channel).glob("*.1.json")
        return path

    def verify(self, evidence: Path, ak: Path, nonce: str, *, chip: bool = False) -> Appraisal:
        """Let the command judge evidence, as somebody would who has neither host nor TPM."""
        command = [
            VMGATE, "attest", "verify", evidence, "--ak", ak, "--nonce", nonce, "--anchor", self.desk.anchor,
            "--release", self.platform, "--release", self.workload, "--policy", self.artifact("security-policy"),
            "--host-image", self.artifact("host-image"), *(["--chip"] if chip else []),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if not done.stdout:
            return Appraisal(done.returncode, "none", "none", [], done.stderr)
        part = json.loads(done.stdout)["submods"]["platform"]
        told = part["vmgate.appraisal"]
        return Appraisal(done.returncode, told["level"], part["ear.status"], told["findings"], done.stderr)


class Appraisal(NamedTuple):
    """What the verifier said: exit code, level, status, findings, and its line on standard error."""

    exit: int
    level: str
    status: str
    findings: list[dict[str, str]]
    said: str

    def failed(self) -> set[tuple[str, str]]:
        """Check and subject of what speaks against the host, but for the level, which follows from the rest."""
        failures = {(f["check"], f["subject"]) for f in self.findings if f["outcome"] == "fail"}
        return failures - {("assurance-level", "platform")}


def begin(below: Path) -> Publisher:
    """A publisher with keys and an empty repository, and the VM's image built."""
    desk = Desk(below / "publisher", cache_folder(), hidden=below / "hidden")
    desk.init()
    desk.build_image("1", "hello-1")
    return Publisher(desk)


def release(publisher: Publisher, image: Image, firmware: tuple[str, ...] = ()) -> None:
    """Release the platform and the workload.

    Args:
        publisher: from ``begin``.
        image: what the hosts boot.
        firmware: values of PCR 0 that the publisher vouches for.
    """
    desk = publisher.desk
    root, tree = (cut(image.disk, partition, desk.folder) for partition in (layout.ROOT, layout.VERITY))
    keys = image.owner.certificates
    more = f"""
[host_image]
kernel = "{image.kernel_image}"
root = "{image.tree}"
root_image = "{root}"
hash_tree = "{tree}"
platform_key = "{keys.platform}"
exchange_key = "{keys.exchange}"
signature_database = "{keys.database}"
owner = "{keys.owner}"
phases = ["", "sysinit", "sysinit:ready"]
firmware = {json.dumps(list(firmware))}
"""
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, packages=image.debs, more=more))
    root.unlink()
    tree.unlink()
    desk.release(desk.write_workload(title="Hello", image="hello-1.img", accepts=(1, 9)))
