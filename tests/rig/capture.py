# SPDX-License-Identifier: Apache-2.0
"""`make rig-vectors`: boot a host, set it up, and keep what it shows as test vectors below ``tests/vectors/rig``.

What is kept is evidence as a verifier gets it, and all that is needed to judge it, so that the pure core is tried on a
real boot without one. The host image is cut down to the files that the IMA list names: the whole has megabytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from documents.evidence import Evidence
from documents.host_image import HostImage
from lab.world import folder, serving
from measure import ima, ima_entries
from measure.local import HOOKS_FOLDER, LOCAL_FILES, SETTINGS_FOLDER, is_libvirt_program
from rig.image import Image, build
from rig.machine import Machine
from rig.programs import run
from rig.published import Publisher, begin
from rig.set_up import AK, port_of, set_up

MEASURE = "/usr/lib/systemd/systemd-measure"
VECTORS = Path(__file__).parents[1] / "vectors/rig"
NONCE = b"a nonce that the vectors answer.".hex()
NOTE = """\
# A whole host, captured
Made by `make rig-vectors`, nothing here is written by hand; do not edit. A host of the rig ({system};
OVMF with Secure Boot and keys of its own; swtpm; {kernel}; systemd {systemd}) booted, was set up, applied these
releases over HTTP and gave evidence over the nonce in `facts.json`.

| file | is |
|---|---|
| `evidence.json` | quote, attestation key, boot log, IMA list, vmgate's log, as `vmgate attest evidence` gives them |
| `ak.pub` | the attestation key as enrolled |
| `root.json` | the publisher's first root metadata |
| `platform.json`, `workload.json` | the releases |
| `policy.json`, `host-image.json` | artifacts of the platform's; the image cut down to the files that ran |
| `facts.json` | what others say: PCRs from the kernel, sections by `sha256sum`, PCR 11 by `systemd-measure` |

The cut image has another digest than the one that the release names; the test puts the digest right.
"""


def main() -> int:
    """Capture."""
    image = build()
    with folder("rig-vectors") as below:
        publisher = begin(below)
        with serving(publisher.desk.repository) as url, Machine(image, web=port_of(url)) as host:
            host.boot()
            set_up(host, publisher)
            _keep(host, publisher, image)
    print(f"rig: the vectors in {VECTORS} are new")
    return 0


def _keep(host: Machine, publisher: Publisher, image: Image) -> None:
    shutil.rmtree(VECTORS, ignore_errors=True)
    VECTORS.mkdir(parents=True)
    host.do(f"vmgate attest evidence --nonce {NONCE} --out /run/evidence", 180)
    pcrs = host.do("cd /sys/class/tpm/tpm0/pcr-sha256 && for n in $(seq 0 13); do cat $n; done").lower().split()
    evidence = host.read("/run/evidence")
    whole = HostImage.parse(publisher.artifact("host-image").read_bytes())
    named = {ima_entries.file_of(entry).name for entry in ima.parse_ima(Evidence.parse(evidence).ima).entries}
    files = tuple(entry for entry in whole.files if entry.path in named | set(LOCAL_FILES.values()))
    named = {ima.file_of(entry).name for entry in ima.parse_ima(Evidence.parse(evidence).ima).entries}
    named |= set(LOCAL_FILES.values())
    local = (HOOKS_FOLDER, SETTINGS_FOLDER)
    files = tuple(
        entry
        for entry in whole.files
        if entry.path in named or is_libvirt_program(entry.path) or entry.path.startswith(local)
    )
    for name, content in {
        "evidence.json": evidence,
        "ak.pub": host.read(AK),
        "root.json": publisher.desk.anchor.read_bytes(),
        "platform.json": publisher.platform.read_bytes(),
        "workload.json": publisher.workload.read_bytes(),
        "policy.json": publisher.artifact("security-policy").read_bytes(),
        "host-image.json": replace(whole, files=files).encode(),
        "facts.json": _facts(host, pcrs, image),
    }.items():
        (VECTORS / name).write_bytes(content)
    system = host.do(". /etc/os-release && echo $PRETTY_NAME").strip()
    kernel, systemd = host.do("uname -sr").strip(), host.do("systemctl --version | head -n 1").split()[1]
    (VECTORS / "README.md").write_text(NOTE.format(system=system, kernel=kernel, systemd=systemd))


def _facts(host: Machine, pcrs: list[str], image: Image) -> bytes:
    parts = image.parts
    with folder("rig-facts") as below:
        command_line = below / "cmdline"
        command_line.write_text(parts.command_line)
        inputs = {".linux": parts.kernel, ".osrel": parts.release, ".cmdline": command_line, ".initrd": parts.initrd}
        options = [f"--{name[1:]}={path}" for name, path in inputs.items()]
        said = run(MEASURE, "calculate", *options, "--bank=sha256", "--phase=sysinit:ready", "--json=short")
        facts = {
            "nonce": NONCE,
            "pcrs": {str(index): value for index, value in enumerate(pcrs)},
            "pcr11": json.loads(said)["sha256"][0]["hash"],
            "sections": {name: run("sha256sum", path).split()[0] for name, path in inputs.items()},
            "kernel": host.do("uname -r").strip(),
        }
    return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
