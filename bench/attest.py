# SPDX-License-Identifier: Apache-2.0
"""What judging a host's evidence costs, beside Keylime's verifier in the same run. Prints ratios; decides nothing.

    PYTHONPATH=.:tests .venv/bin/python -P bench/attest.py [--keylime VENV] [--runs 5] [--eventlogs FILE...]

VENV is the folder of a virtual environment that has Keylime 7 (``pip install keylime`` and what its parser needs), with
``tpm2_eventlog`` and libefivar1 on the machine; without it that column is left out, and said so. Both sides get the
same bytes and take turns in short stretches, in one process each, so that whatever else the machine does meets both.
Seconds are the processor's, children included, as the machine may be shared; the ratio by the clock stands beside.

The cases. **boot log**: base64, parse, replay, and the events that policy needs; Keylime's ``bootlog_parse``.
**IMA**: a list parsed, replayed to PCR 10 and each file looked up, once in binary, as our hosts send it, and once in
ASCII, as Keylime's do; Keylime's ``process_measurement_list`` on the same entries in ASCII.
**quote**: base64, key, signature, nonce, selection, digest over the PCR values; Keylime's ``_tpm2_checkquote``.
**whole evidence**: bytes of one document in, verdict out, of one host of many that share a release. Keylime has no one
call for that.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.verifier import verify_prepared
from lab.attested import NONCE, Attested, attested
from lab.keylime import QUOTED, AsciiList, Keylime, Took, keylime_inputs
from lab.paper_tpm import EccAk, RsaAk, attest
from measure import bootlog
from measure.boot_events import decode
from measure.boot_files import ImageFiles
from measure.errors import LogRefused
from measure.ima import parse_ima
from measure.known_image import KnownImage
from measure.quote import verify_quote

MEASURED = 3_500
"""Entries of an IMA list."""

FILES = 10_000
"""Files of a host image."""

STRETCH = 0.25
"""Seconds of the processor that one side works before the other has its turn."""

NOW = 1_800_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: for people.
        peer: Keylime's case; empty where it has none.
        unit: how many of what people count one call does.
        call: does it, and raises or asserts when it does not come out well.
        goal: for people.
    """

    name: str
    peer: str
    unit: int
    call: Callable[[], object]
    goal: str = ""


def ours(case: Case, count: int) -> Took:
    """So many calls of ours."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        case.call()
    return Took(wall=(time.perf_counter() - wall) / count, cpu=(time.process_time() - cpu) / count)


def stretch(measure: Callable[[int], Took]) -> int:
    """How many calls fill a stretch."""
    return max(1, int(STRETCH / max(measure(3).cpu, 1e-9)))


def boot_log_case(log: bytes) -> Callable[[], object]:
    """Parse, replay, and decode where it has the bank that counts."""
    text = base64.b64encode(log).decode()

    def call() -> None:
        parsed = bootlog.parse_boot_log(base64.b64decode(text, validate=True))
        bootlog.replay(parsed, ("sha1",) if parsed.banks == ("sha1",) else ("sha256",))
        if "sha256" in parsed.banks:
            decode(parsed)

    return call


def ima_case(host: Attested, text: AsciiList, *, warm: bool) -> Callable[[], object]:
    """Parse, replay and look up, as ``measure.boot`` does. Warm: of a host whose release others have too."""
    data = "".join(line + "\n" for line in text.lines).encode()
    kept = ImageFiles(host.image)

    def call() -> None:
        files = kept if warm else ImageFiles(host.image)
        entries = parse_ima(data).entries
        value = bytes(32)
        for entry in entries:
            value = hashlib.sha256(value + hashlib.sha256(entry.data).digest()).digest()
        assert value == text.pcr10
        assert all(finding.outcome == "pass" for finding in files.findings(entries, host.values))

    return call


def evidence_ima_case(host: Attested) -> Callable[[], object]:
    """The same from the binary list that our evidence has, of a host whose image the verifier knows."""
    known = KnownImage(host.image)

    def call() -> None:
        entries, values = known.entries.read(host.evidence.ima)
        assert values[-1] == host.values[10]
        assert all(finding.outcome == "pass" for finding in known.files.findings(entries, host.values))

    return call


def quote_case(key: EccAk | RsaAk, values: dict[int, bytes]) -> Callable[[], object]:
    """Verify a quote and the values that came with it."""
    quoted = attest(NONCE, {"sha256": values})
    texts = [base64.b64encode(part) for part in (quoted, key.sign(quoted), key.public)]

    def call() -> None:
        attested_bytes, signature, public = (base64.b64decode(text, validate=True) for text in texts)
        verify_quote(attested_bytes, signature, public, NONCE).verify_values({"sha256": values})

    return call


def whole_case(host: Attested) -> Callable[[], object]:
    """A verdict from the bytes of a document."""
    known = host.expected.references()
    data = host.evidence.encode()

    def call() -> None:
        verdict = verify_prepared(data, known, ak=host.ak, nonce=NONCE, time=NOW, chip=True)
        verdict.require_trusted("nothing to do")

    return call


@contextmanager
def keylime(venv: Path | None, inputs: dict[str, Any]) -> Iterator[Keylime | None]:
    """Keylime's side, if there is one."""
    side = Keylime(venv, inputs) if venv else None
    try:
        yield side
    finally:
        if side:
            side.close()


def compare(case: Case, side: Keylime | None, runs: int) -> tuple[list[Took], list[Took]]:
    """Both sides in turns."""
    case.call()
    count = stretch(lambda calls: ours(case, calls))
    theirs = side if case.peer else None
    their_count = stretch(lambda calls: theirs.time(case.peer, calls)) if theirs else 0
    mine, other = [], []
    for _ in range(runs):
        mine.append(ours(case, count))
        if theirs:
            other.append(theirs.time(case.peer, their_count))
    return mine, other


def show(case: Case, mine: list[Took], other: list[Took]) -> None:
    """One row: medians, the range of the runs, and ratios of turn to turn."""
    rates = [case.unit / took.cpu for took in mine]
    row = f"{case.name:34}{statistics.median(rates):>12,.0f}{min(rates):>12,.0f}{max(rates):>12,.0f}"
    if other:
        rate = case.unit / statistics.median(took.cpu for took in other)
        by_cpu = statistics.median(b.cpu / a.cpu for a, b in zip(mine, other, strict=True))
        by_clock = statistics.median(b.wall / a.wall for a, b in zip(mine, other, strict=True))
        row += f"{rate:>12,.0f}{by_cpu:>9.1f}{by_clock:>9.1f}"
    else:
        row += f"{'':>30}"
    print(f"{row}  {case.goal}", flush=True)


def parts(host: Attested, bare: Attested, text: AsciiList, keys: dict[str, EccAk | RsaAk]) -> list[Case]:
    """All cases."""
    ima, cold = (ima_case(host, text, warm=warm) for warm in (True, False))
    values = {index: host.values[index] for index in QUOTED}
    return [
        Case(name="boot logs", peer="boot-log", unit=1, call=boot_log_case(host.evidence.boot_log), goal="50x"),
        Case(name="IMA entries", peer="ima", unit=MEASURED, call=evidence_ima_case(host), goal="4x"),
        Case(name="IMA entries, ASCII", peer="ima", unit=MEASURED, call=ima),
        Case(name="IMA entries, ASCII, nothing known", peer="ima", unit=MEASURED, call=cold),
        Case(name="quotes, ECC", peer="quote-ecc", unit=1, call=quote_case(keys["ecc"], values), goal="1.4x"),
        Case(name="quotes, RSA", peer="quote-rsa", unit=1, call=quote_case(keys["rsa"], values)),
        Case(name=f"whole, {MEASURED:,} IMA entries", peer="", unit=1, call=whole_case(host), goal="300/s"),
        Case(name="whole, IMA list of one entry", peer="", unit=1, call=whole_case(bare), goal="1,000/s"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keylime", type=Path, help="virtual environment that has Keylime")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--eventlogs", type=Path, nargs="*", default=[], help="more boot logs, one row each")
    arguments = parser.parse_args()
    keys: dict[str, EccAk | RsaAk] = {"ecc": EccAk(), "rsa": RsaAk()}
    host = attested(MEASURED, FILES, keys["ecc"])
    bare = attested(1, FILES, keys["ecc"])
    text = AsciiList(host)
    if not arguments.keylime:
        print("Keylime's column is left out: no --keylime VENV was given")
    print(f"per second of one core; {arguments.runs} turns")
    print(f"boot log: {len(host.evidence.boot_log):,} bytes; evidence: {len(host.evidence.encode()):,} bytes")
    print(f"{'':34}{'ours':>12}{'least':>12}{'most':>12}{'Keylime':>12}{'x CPU':>9}{'x clock':>9}  goal")
    inputs = keylime_inputs(host, text, keys)
    with keylime(arguments.keylime, inputs) as side:
        for case in parts(host, bare, text, keys):
            show(case, *compare(case, side, arguments.runs))
    for path in arguments.eventlogs:
        log = path.read_bytes()
        case = Case(name=path.name[:33], peer="boot-log", unit=1, call=boot_log_case(log))
        try:
            case.call()
        except LogRefused as error:
            print(f"{path.name}: {error.cause}")
            continue
        with keylime(arguments.keylime, {**inputs, "boot_log": base64.b64encode(log).decode()}) as side:
            show(case, *compare(case, side, arguments.runs))


if __name__ == "__main__":
    sys.exit(main())
