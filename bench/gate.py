# SPDX-License-Identifier: Apache-2.0
"""What the gate adds to the start of a VM, beside a plain ``virsh start`` of the same domain in the same run.

    PYTHONPATH=tests .venv/bin/python -P bench/gate.py FOLDER [--runs 10] [--vms 10]

A host of vmgate's with its own libvirt, and a second libvirt without a hook, each in a mount namespace of its own. Both
start the same domains: same firmware, image, memory and an encrypted TPM; the second is given its secrets once and for
all. In each run all VMs are started one after the other, the two hosts taking turns at each, and then all are ended.
Processors stand still (``--paused``), so that no guest takes time from another's start. Medians of all runs; a start is
the whole command. The policy lets digests be remembered for a boot, as with fs-verity nothing would be read either.
FOLDER is made, and QEMU's user must be able to enter it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from lxml import etree

from lab import libvirt_host
from lab.many import release_many
from lab.publisher import Desk
from lab.world import World, published, serving

GOAL_MS = 150
"""Most that the gate should add at the median."""

_MET = {True: "met", False: "missed"}

SECRET = """<secret ephemeral='yes' private='yes'><uuid>{uuid}</uuid>
<usage type='vtpm'><name>{uuid}</name></usage></secret>"""


def virsh(*arguments: str | Path) -> float:
    """Run a command that must work; returns its seconds."""
    command = ["virsh", "-q", "-c", "qemu:///system", *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"virsh {' '.join(map(str, arguments))}: {done.stderr}")
    return seconds


def plain(folder: Path) -> None:
    """The second host: reads commands from standard input and answers each with its seconds."""
    with libvirt_host.running(folder / "libvirt"):
        print("ready", flush=True)
        for line in sys.stdin:
            verb, _, argument = line.strip().partition(" ")
            if verb == "define":
                _define(Path(argument))
                print(0, flush=True)
            else:
                print(virsh(*_verb(verb), argument), flush=True)


def _define(path: Path) -> None:
    virsh("define", path)
    secret = path.with_suffix(".secret")
    uuid = str(etree.parse(path).findtext("uuid"))
    secret.write_text(SECRET.format(uuid=uuid))
    virsh("secret-define", secret)
    virsh("secret-set-value", uuid, "MDEyMzQ1Njc4OWFiY2RlZg==")


def _verb(verb: str) -> list[str]:
    return ["start", "--paused"] if verb == "start" else [verb]


def ask(host: subprocess.Popen[str], line: str) -> float:
    """Let the second host do something; returns its seconds."""
    to, back = _pipes(host)
    to.write(line + "\n")
    to.flush()
    return float(back.readline())


def _pipes(host: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if host.stdin is None or host.stdout is None:
        raise RuntimeError("no pipes")
    return host.stdin, host.stdout


def copy_domains(world: World, names: list[str], folder: Path, second: subprocess.Popen[str]) -> None:
    """Define the same domains in the second host, each with variables and a console of its own."""
    for name in names:
        domain = etree.fromstring(world.ask("vm/show", name=name)["xml"])
        variables = folder / f"{name}.fd"
        shutil.copyfile(world.stored("firmware-vars"), variables)
        domain.find("os/nvram").text = str(variables)
        for log in domain.iter("log"):
            log.set("file", str(folder / f"{name}.log"))
        path = folder / f"{name}.xml"
        path.write_bytes(etree.tostring(domain))
        ask(second, f"define {path}")


def measure(names: list[str], runs: int, second: subprocess.Popen[str]) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of each start, by run and VM: gated and plain."""
    gated: list[list[float]] = []
    bare: list[list[float]] = []
    for _ in range(runs + 1):
        gated.append([])
        bare.append([])
        for name in names:
            bare[-1].append(ask(second, f"start {name}"))
            gated[-1].append(virsh("start", "--paused", name))
        for name in names:
            virsh("destroy", name)
            ask(second, f"destroy {name}")
    # The first run makes each VM's key and TPM, and reads what is remembered later.
    return gated[1:], bare[1:]


def report(gated: list[list[float]], bare: list[list[float]]) -> None:
    """Print the table and what came of the goals."""
    last = len(gated[0])
    print(f"{last} VMs, medians of {len(gated)} runs, in ms\n")
    print("| start of | plain `virsh start` | with the gate | added | ratio |\n|---|---:|---:|---:|---:|")
    rows = {
        "all VMs": slice(None),
        "the first VM": slice(0, 1),
        f"VM {last}": slice(last - 1, last),
    }
    added: dict[str, float] = {}
    for what, part in rows.items():
        with_gate = 1000 * statistics.median(value for run in gated for value in run[part])
        without = 1000 * statistics.median(value for run in bare for value in run[part])
        pairs = [
            1000 * (a - b)
            for one, other in zip(gated, bare, strict=True)
            for a, b in zip(one[part], other[part], strict=True)
        ]
        added[what] = statistics.median(pairs)
        print(f"| {what} | {without:.0f} | {with_gate:.0f} | {added[what]:.0f} | {with_gate / without:.2f} |")
    print(f"\ngoal: at most {GOAL_MS} ms added at the median: {_MET[added['all VMs'] <= GOAL_MS]}")
    first, tenth = added["the first VM"], added[f"VM {last}"]
    print(f"goal: VM {last} gets no more added than the first: {first:.0f} and {tenth:.0f} ms: {_MET[tenth <= first]}")


def main() -> int:
    """Set up both hosts and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--vms", type=int, default=10)
    parser.add_argument("--second", action="store_true", help="be the host without a gate")
    chosen = parser.parse_args()
    folder: Path = chosen.folder.absolute()
    if chosen.second:
        plain(folder)
        return 0
    folder.mkdir(mode=0o755)
    try:
        _run(folder, chosen.runs, [f"small-{number:02}" for number in range(1, chosen.vms + 1)])
    finally:
        shutil.rmtree(folder)
    return 0


def _published(folder: Path, names: list[str]) -> Desk:
    desk = published(folder / "publisher")
    more = 'digests = "once-per-boot"\n'
    desk.release(desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, more=more))
    release_many(desk, names)
    return desk


def _run(folder: Path, runs: int, names: list[str]) -> None:
    desk = _published(folder, names)
    places = {name: folder / name for name in ("plain", "gated", "domains")}
    for place in places.values():
        place.mkdir(mode=0o755)
    command = [sys.executable, "-P", __file__, str(places["plain"]), "--second"]
    with (
        serving(desk.repository) as url,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second,
        libvirt_host.running(places["gated"] / "libvirt") as libvirt,
    ):
        try:
            if _pipes(second)[1].readline() != "ready\n":
                raise RuntimeError("the second host did not come up")
            world = World(places["gated"], desk, url, libvirt)
            try:
                world.run("update", "apply")
                copy_domains(world, names, places["domains"], second)
                gated, bare = measure(names, runs, second)
                report(gated, bare)
                status = json.loads(world.run("status", "-o", "json"))
                if status["faults"]:
                    raise RuntimeError(f"the watch found {status['faults']}")
            finally:
                world.close()
        finally:
            _pipes(second)[0].close()


if __name__ == "__main__":
    sys.exit(main())
