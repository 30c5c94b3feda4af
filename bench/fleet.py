# SPDX-License-Identifier: Apache-2.0
"""How many whole attestations a fleet's service takes in a second, database writes included. Prints; decides nothing.

    PYTHONPATH=.:tests .venv/bin/python -P bench/fleet.py [--hosts 200] [--seconds 20] [--processes 2]
        [--clients 2] [--measured 1] [--files 10000] [--postgresql] [--keylime VENV] [--folder DIR]

The service is the real command, with TLS on loopback. Hosts have keys in memory in place of a TPM's; all they sign and
quote is real. Their evidence is that of the host that was captured in the rig, with as many measured files as wanted.
One attestation is two requests over a kept connection: a nonce, and evidence with its signature. Clients are processes
of this program and share the machine with the service, so beside the rate by the clock stands what an attestation costs
the service's processes, by the processor's seconds: that depends less on what else the machine does. What PostgreSQL's
own processes take is counted too.

With ``--keylime VENV`` (see ``bench/attest.py``) Keylime's verifier judges the same evidence in the same run: quote,
boot log and IMA list, by the functions that its service calls, without its HTTP and its database.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from documents.evidence import Evidence
from documents.fleet_answers import Appraised, NonceGrant
from lab.attested import Attested, attested
from lab.fleet_service import Caller, Service
from lab.keylime import AsciiList, Keylime, keylime_inputs
from lab.paper_host import PaperHost
from lab.paper_tpm import EccAk, attest
from lab.pem import pem
from lab.postgres import postgres
from lab.vendor import CHIP, Authority

VENDOR = Authority("maker of chips", until=20_000)
TICK = os.sysconf("SC_CLK_TCK")
WARM = 3.0
"""Seconds before anything counts: each process makes ready what it compares hosts with."""

PEER_CASES = ("quote-ecc", "boot-log", "ima")


class RigHost(PaperHost):
    """A host that booted the rig's image.

    Args:
        number: tells it from others.
        rig: what it shows.
    """

    def __init__(self, number: int, rig: Attested) -> None:
        super().__init__(number, VENDOR, CHIP)
        self._rig = rig

    def evidence(self, nonce: bytes, **changes: bytes) -> Evidence:
        """A quote over a nonce, and the rig's logs."""
        self.clock += 1_000
        quoted = attest(nonce, {"sha256": self._rig.values}, counters=(self.clock, 3, 1))
        return replace(self._rig.evidence, attest=quoted, signature=self.ak.sign(quoted), ak=self.ak.public, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one client does.

    Attributes:
        url, ca: of the service.
        hosts: (number, id) of its hosts.
        seconds: for so long.
        measured, files: see the options.
    """

    url: str
    ca: str
    hosts: tuple[tuple[int, str], ...]
    seconds: float
    measured: int
    files: int


def drive(load: Load, start: Any, results: Any) -> None:
    """Attest one host after the other, over one connection; gives the seconds that each took the service.

    Args:
        load: what to do.
        start: a barrier: from there on it counts.
        results: a queue.
    """
    rig = attested(load.measured, load.files, EccAk())
    hosts = []
    for number, name in load.hosts:
        host = RigHost(number, rig)
        host.id = name
        hosts.append(host)
    connection = Caller(load.url, Path(load.ca)).connect()
    _round(connection, hosts, WARM)
    start.wait()
    results.put(_round(connection, hosts, load.seconds))


def _round(connection: HTTPSConnection, hosts: list[RigHost], seconds: float) -> list[float]:
    times = list[float]()
    until = time.monotonic() + seconds
    for host in cycle(hosts):
        taken, status = _attest(connection, host)
        if status != "affirming":
            raise RuntimeError(f"{host.name} is {status}")
        times.append(taken)
        if time.monotonic() >= until:
            break
    return times


def _attest(connection: HTTPSConnection, host: RigHost) -> tuple[float, str]:
    began = time.perf_counter()
    nonce = NonceGrant.parse(_ask(connection, "GET", f"/v1/hosts/{host.id}/nonce")).nonce
    taken = time.perf_counter() - began
    target = f"/v1/hosts/{host.id}/attestations"
    body = host.evidence(nonce).encode()
    headers = host.headers(target, body, nonce)
    began = time.perf_counter()
    found = Appraised.parse(_ask(connection, "POST", target, body, headers))
    return taken + time.perf_counter() - began, found.status


def _ask(
    connection: HTTPSConnection, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    connection.request(method, target, body=body or None, headers=headers or {})
    response = connection.getresponse()
    found = response.read()
    if response.status != 200:
        raise RuntimeError(found.decode())
    return found


def processes_of(parent: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *(pid for child in children for pid in processes_of(int(child)))]


def used(pids: list[int]) -> float:
    """Seconds of the processor that processes took."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident(pids: list[int]) -> list[int]:
    """Mebibytes of each process."""
    sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return [size * os.sysconf("SC_PAGE_SIZE") // 2**20 for size in sizes]


def add_rig(service: Service, rig: Attested) -> None:
    """Compare hosts with what the rig ran."""
    names = []
    for name, body in (
        ("0.json", rig.expected.releases[0]),
        ("1.json", rig.expected.releases[1]),
        ("root.json", rig.expected.anchor),
        ("policy.json", rig.expected.policy),
        ("image.json", rig.expected.image),
        ("packages.json", rig.expected.packages),
    ):
        if body is not None:
            (service.folder / name).write_bytes(body)
            names.append(name)
    anchor = ("--anchor", service.folder / "root.json")
    found = [part for name in names[3:] for part in ("--artifact", service.folder / name)]
    service.run("reference", "add", service.folder / "0.json", *anchor, *found)
    service.run("reference", "add", service.folder / "1.json", *anchor)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run it."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(dir=options.folder))) / "service"
        address, server = "sqlite:///fleet.db", None
        if options.postgresql:
            server = undo.enter_context(postgres())
            address = server.create("fleet")
        service = undo.enter_context(Service(folder, address, "--processes", str(options.processes)))
        # In order, so that its processes end with it.
        undo.callback(service.stop)
        (folder / "roots/chips/vendor.pem").write_text(pem(VENDOR.certificate))
        rig = attested(options.measured, options.files, EccAk())
        add_rig(service, rig)
        caller = service.start()
        ids = []
        for number in range(options.hosts):
            host = RigHost(number, rig)
            ids.append((number, caller.enrol(host, service.token()).host))
        parents = [service.pid, *([server.pid] if server else [])]
        return {**_run(service, ids, parents, options), "evidence KiB": len(rig.evidence.encode()) // 1024}


def _run(
    service: Service, ids: list[tuple[int, str]], parents: list[int], options: argparse.Namespace
) -> dict[str, Any]:
    context = get_context("spawn")
    results = context.Queue()
    loads = [
        Load(
            url=service.url,
            ca=str(service.folder / "tls/ca.pem"),
            hosts=tuple(ids[part :: options.clients]),
            seconds=options.seconds,
            measured=options.measured,
            files=options.files,
        )
        for part in range(options.clients)
    ]
    start = context.Barrier(options.clients + 1)
    clients = [context.Process(target=drive, args=(load, start, results)) for load in loads]
    for client in clients:
        client.start()
    start.wait()
    pids = [pid for parent in parents for pid in processes_of(parent)]
    before = used(pids)
    found = [results.get() for _ in clients]
    spent = used(pids) - before
    for client in clients:
        client.join()
    times = sorted(taken for part in found for taken in part)
    return {
        "attestations": len(times),
        "a second, by the clock": round(len(times) / options.seconds, 1),
        "ms of a core for each": round(1_000 * spent / len(times), 2),
        "a second on two cores": round(2 * len(times) / spent, 1),
        "p50 ms": round(1_000 * statistics.median(times), 1),
        "p99 ms": round(1_000 * times[int(len(times) * 0.99) - 1], 1),
        "resident MiB": resident(processes_of(service.pid)),
    }


def peer(venv: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What Keylime's verifier takes for the same evidence, in milliseconds of a core."""
    key = EccAk()
    host = attested(options.measured, options.files, key)
    side = Keylime(venv, keylime_inputs(host, AsciiList(host), {"ecc": key}))
    try:
        took = {case: 1_000 * side.time(case, 20).cpu for case in PEER_CASES}
    finally:
        side.close()
    whole = sum(took.values())
    each = {f"Keylime: {case}, ms": round(ms, 2) for case, ms in took.items()}
    return {**each, "Keylime: ms for each": round(whole, 2), "Keylime: on two cores": round(2_000 / whole, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Whole attestations a second.")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--measured", type=int, default=1, help="entries of the IMA list")
    parser.add_argument("--files", type=int, default=10_000, help="of the host image")
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--keylime", type=Path, help="virtual environment that has Keylime")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    found = measure(options)
    if options.keylime:
        found |= peer(options.keylime, options)
    for name, value in found.items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
