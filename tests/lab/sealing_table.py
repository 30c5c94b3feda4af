# SPDX-License-Identifier: Apache-2.0
"""What opens a host's key, tried on a real software TPM: ``PYTHONPATH=.:tests python -m lab.sealing_table DIR``.

Each part makes keys on one or two hosts, brings them into many states and tries every policy of a release. What is
expected comes from a few lines about each part, which know nothing of policies, digests or TPMs. The page is
``docs/sealing-table.md``; ``tests/integration/test_sealing_table.py`` makes all of it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from documents.host_state import SealedKey
from documents.release import Release, SignedPolicy
from lab.boot_logs import MACHINE, Machine
from lab.fuse import cuts
from lab.measuring import Signer, platform
from lab.sealed_host import SealedHost
from measure import guard
from measure.errors import SealShut

PAGE = Path(__file__).resolve().parents[2] / "docs/sealing-table.md"
EPOCHS = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    columns: tuple[str, ...]
    expected: bool
    found: bool

    def line(self) -> str:
        """As it stands on the page."""
        told = ("opens" if self.expected else "shut", "opens" if self.found else "shut")
        return "| " + " | ".join((*self.columns, *told)) + " |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the table.

    Attributes:
        title: of its heading.
        words: what its columns mean.
        columns: their names.
        rows: makes them, below an empty folder.
    """

    title: str
    words: str
    columns: tuple[str, ...]
    rows: Callable[[Path], Iterable[Row]]

    def section(self, folder: Path) -> str:
        """As it stands on the page."""
        names = (*self.columns, "expected", "found")
        head = f"## {self.title}\n{self.words}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
        return head + "".join(f"{row.line()}\n" for row in self.rows(folder))


def opens(host: SealedHost, sealed: SealedKey, policies: Iterable[SignedPolicy]) -> bool:
    """Whether a key opens with any of these policies, whatever they are for; and the agent's way finds the same."""
    policies, found = tuple(policies), False
    try:
        guard.unseal(host.tpm, sealed, policies)
        found = True
    except SealShut:
        blobs = [sealed, *(replace(sealed, public=item.public, private=item.private) for item in sealed.ahead)]
        for blob in blobs:
            for policy in policies:
                try:
                    host.tpm.unseal(blob, policy)
                except SealShut:
                    continue
                raise AssertionError("a policy opens the key that the agent did not find") from None
    return found


# Releases, epochs and boots.

ONE = platform(1, epochs=EPOCHS)
TWO = platform(2, predecessors=(ONE,), epochs=EPOCHS)
THREE = platform(3, predecessors=(TWO,), epochs=EPOCHS)
FOUR = platform(4, predecessors=(ONE, TWO, THREE), epoch=2, epochs=(0, 1, 2))
FORGED = platform(2, predecessors=(ONE,), epochs=(0, 1, 2), signer=Signer("somebody else"))
RELEASES: Mapping[str, Release] = {"1": ONE, "2": TWO, "3": THREE, "4": FOUR, "2, refused": FORGED}
WAYS = (
    "1",
    "2",
    "1 > 2",
    "3",
    "2 > 3",
    "1 > 3",
    "1 > 2 > 3",
    "4",
    "1 > 4",
    "2 > 4",
    "3 > 4",
    "1 > 2 > 4",
    "-",
    "2 + ?",
)
SIGNED = {"1": {"1"}, "2": {"2", "1 > 2"}, "3": {"3", "2 > 3"}, "4": {"4", "1 > 4", "2 > 4", "3 > 4"}}
EPOCHS_OF = {"1": {1}, "2": {1}, "3": {1}, "4": {1, 2}}


def _enter(host: SealedHost, way: str) -> None:
    first, *rest = way.split(" + ", maxsplit=1)[0].split(" > ")
    host.boot(RELEASES.get(first))
    for name in rest:
        host.switch(RELEASES[name])
    if "+" in way:
        host.tpm.extend(13, b"what no release names")


def _releases(folder: Path) -> Iterator[Row]:
    """Two hosts, since a counter that rose does not sink: one in epoch 1, and one that confirmed release 4."""
    others = {True: 0, False: 0}
    for raised in (False, True):
        host = SealedHost(folder / str(raised))
        host.start(ONE)
        host.init(ONE)
        keys = {"epoch 1": (host.sealed(), 1, False)}
        if raised:
            host.boot(FOUR)
            host.confirm(FOUR)
            keys = {"epoch 1, copied back": (keys["epoch 1"][0], 1, True), "epoch 2": (host.sealed(), 2, False)}
        for way in WAYS:
            _enter(host, way)
            for key, (sealed, epoch, shut) in keys.items():
                for name, release in RELEASES.items():
                    found = opens(host, sealed, release.policies)
                    allowed = way in SIGNED.get(name, ()) and epoch in EPOCHS_OF.get(name, ()) and not shut
                    if way[-1] == name[0] or (way in "2 + ?" and name == "2"):
                        yield Row(columns=(key, name, way), expected=allowed, found=found)
                    else:
                        assert not allowed
                        others[found] += 1
        host.off()
    tries = f"another than booted: {others[False] + others[True]} tries"
    yield Row(columns=("each", tries, "each"), expected=False, found=bool(others[True]))


# Host images and Secure Boot.

LATER = replace(
    MACHINE,
    variables={**MACHINE.variables, "db": b"db with the CA of 2026", "dbx": b"the next dbx"},
    signature=b"owner of 16 byte" + b"certificate of 2026",
    sections=tuple((name, b"kernel B" if name == ".linux" else text) for name, text in MACHINE.sections),
)
STRANGE = replace(MACHINE, variables={**MACHINE.variables, "KEK": b"another"})
OFF = b"\0"
STATES: Mapping[str, tuple[Machine | None, str, str]] = {
    "image A": (MACHINE, "A", "A"),
    "image B, changed": (LATER, "B", "B"),
    "image A, another KEK": (STRANGE, "A", "?"),
    "image A, Secure Boot off": (replace(MACHINE, secure_boot=OFF), "A", "?"),
    "image B, changed, Secure Boot off": (replace(LATER, secure_boot=OFF), "B", "?"),
    "image A, shutting down": (replace(MACHINE, phase="sysinit:ready:shutdown"), "", "A"),
    "no image": (None, "", "?"),
}
"""What boots: the machine, its image in a signed phase, and its state of Secure Boot."""

BARE = platform(1, epochs=EPOCHS)
WITH_A = platform(2, epochs=EPOCHS, image=MACHINE.image())
WITH_B = platform(3, epochs=EPOCHS, image=LATER.image())
IMAGES = {2: MACHINE.image(), 3: LATER.image()}


def _secure_boot(folder: Path) -> Iterator[Row]:
    host = SealedHost(folder, IMAGES)
    host.start(BARE)
    host.init(BARE)
    keys = {"of before images": (host.sealed(), "AB?")}
    yield from _in_states(host, keys)
    host.boot(WITH_A, MACHINE)
    host.confirm(WITH_A)
    keys = {"of before images, copied back": (keys["of before images"][0], ""), "sealed to A": (host.sealed(), "A")}
    host.resealing.seal_ahead(WITH_B, WITH_A)
    keys["sealed to A, ahead to B"] = (host.sealed(), "AB")
    yield from _in_states(host, keys)
    host.boot(WITH_B, LATER)
    host.confirm(WITH_B)
    ahead = keys["sealed to A, ahead to B"][0]
    yield from _in_states(host, {"B confirmed": (host.sealed(), "B"), "ahead to B, copied back": (ahead, "")})
    host.off()


def _in_states(host: SealedHost, keys: Mapping[str, tuple[SealedKey, str]]) -> Iterator[Row]:
    for state, (machine, image, secure_boot) in STATES.items():
        for name, release, boots in (("bare", BARE, ""), ("with A", WITH_A, "A"), ("with B", WITH_B, "B")):
            if bool(machine) != bool(boots) and secure_boot == "?":
                continue
            host.boot(release, machine)
            for key, (sealed, wanted) in keys.items():
                # A bare release names no image: whatever booted, only the key's own PCR 7 speaks against it.
                allowed = secure_boot in wanted and wanted != "" and boots in ("", image)
                found = opens(host, sealed, release.policies)
                yield Row(columns=(key, name, state), expected=allowed, found=found)


# Policy keys.

NEW, THIEF = Signer("the publisher's second"), Signer()
SECOND = platform(2, epoch=2, epochs=(0, 1, 2))
BY_NEW = platform(2, epoch=2, epochs=(0, 1, 2), signer=NEW).policies
ROTATED = replace(SECOND, policy_keys=(NEW.public(), *SECOND.policy_keys), policies=(*BY_NEW, *SECOND.policies))


def _policy_keys(folder: Path) -> Iterator[Row]:
    for rotated in (False, True):
        host = SealedHost(folder / str(rotated))
        host.start(ONE)
        host.init(ONE)
        keys = {"old key, epoch 1": (host.sealed(), "old")}
        if rotated:
            host.boot(ROTATED)
            host.confirm(ROTATED)
            keys = {
                "old key, epoch 1, copied back": (keys["old key, epoch 1"][0], ""),
                "new key, epoch 2": (host.sealed(), "new"),
            }
        host.boot()
        host.tpm.extend(13, b"what the thief runs")
        bad = ((13, host.tpm.read_pcrs("sha256", [13])[13].hex()),)
        for state in ("release 2", "what the thief runs"):
            if state == "release 2":
                host.boot(ROTATED)
            for by, policies in (
                ("old", SECOND.policies),
                ("new", BY_NEW),
                ("both", ROTATED.policies),
                ("stolen old", _stolen(bad)),
            ):
                for key, (sealed, opener) in keys.items():
                    right = opener != "" and (by == "both" or opener in by)
                    allowed = right and (state == "what the thief runs") == (by == "stolen old")
                    yield Row(columns=(key, by, state), expected=allowed, found=opens(host, sealed, policies))
            if state == "release 2":
                host.boot()
                host.tpm.extend(13, b"what the thief runs")
        host.off()


def _stolen(pcrs: tuple[tuple[int, str], ...]) -> tuple[SignedPolicy, ...]:
    """What a thief of the old policy key signs: any state, for any epoch."""
    return tuple(
        SignedPolicy(
            entry="fresh", predecessor=0, epoch=epoch, pcrs=pcrs, signature=THIEF.sign(dict(pcrs), "platform", epoch)
        )
        for epoch in (0, 1, 2, 3)
    )


# Cuts.

CHANGES: Mapping[str, tuple[Release, Machine | None, Release, Machine | None, bool]] = {
    "the epoch and the policy key change": (ONE, None, ROTATED, None, False),
    "a first host image": (BARE, None, WITH_A, MACHINE, False),
    "sealing ahead": (WITH_A, MACHINE, WITH_B, LATER, True),
    "the change of Secure Boot is confirmed": (WITH_A, MACHINE, WITH_B, LATER, False),
}


def _cuts(folder: Path) -> Iterator[Row]:
    for number, (name, (first, before, then, after, ahead)) in enumerate(CHANGES.items()):
        made: list[SealedKey] = []

        def ready(number: int = number, name: str = name, made: list[SealedKey] = made) -> SealedHost:
            first, before, then, after, ahead = CHANGES[name]
            host = SealedHost(folder / f"{number}-{len(made)}", IMAGES)
            host.start(first, before)
            host.init(first)
            if not ahead:
                host.resealing.seal_ahead(then, first)
                host.boot(then, after)
            made.append(host.sealed())
            return host

        def operate(host: SealedHost, name: str = name) -> None:
            first, _, then, _, ahead = CHANGES[name]
            if ahead:
                host.resealing.seal_ahead(then, first)
            else:
                host.confirm(then)

        passed = False
        for host, cut in cuts(ready, operate):
            now, machine = (first, before) if ahead else (then, after)
            host.boot(now, machine)
            found = opens(host, host.sealed(), now.policies)
            copied = opens(host, made[-1], now.policies)
            where = f"before {cut}" if cut else "at the end"
            yield Row(columns=(name, where, "on the disk"), expected=True, found=found)
            yield Row(columns=(name, where, "of before, copied back"), expected=not passed or ahead, found=copied)
            passed = passed or cut == "the counter moves"


PARTS = (
    Part(
        title="Releases, epochs and boots",
        words="""\
Releases 1, 2 and 3 are of epoch 1; 4 raises it to 2 and is signed for hosts of both. Signed live switches: 1 > 2, 2 >
3, and to 4 from each. `1 > 2 > 3` is a boot into 1 and two switches, which waits for a reboot; `-` measured nothing,
and `2 + ?` something besides. "2, refused" is release 2 with policies by a key that is not the publisher's. A key
"copied back" is the file of before release 4 was confirmed.""",
        columns=("key", "release", "boot"),
        rows=_releases,
    ),
    Part(
        title="Host images and Secure Boot",
        words="""\
All in one epoch. The bare release has no host image, so PCR 11 is not signed and the key is bound to PCR 7 only where
it was sealed so. Image B comes with another db and dbx, and is signed by another certificate. "Ahead to B" was sealed
for its PCR 7 before the boot.""",
        columns=("key", "release", "boot"),
        rows=_secure_boot,
    ),
    Part(
        title="Policy keys",
        words="""\
Release 2 replaces the policy key and raises the epoch. The thief has the old policy key, signs what he likes for
every epoch, and has a copy of the host's files.""",
        columns=("key", "policies by", "state"),
        rows=_policy_keys,
    ),
    Part(
        title="Cuts",
        words="""\
The power goes at each instant of a re-seal; then the host boots again. What is on the disk opens wherever the cut
came. The copy of the file of before opens until the counter has moved, and never after it.""",
        columns=("re-seal", "cut", "key"),
        rows=_cuts,
    ),
)

INTRODUCTION = """\
# What opens the host's key
Made by a test on a real software TPM, and made again by every run of the tests
(`tests/integration/test_sealing_table.py`); do not edit it. In each row every policy of the release was tried on the
key, whatever state and epoch it is for. "Expected" is what [decision 0009](adr/0009-sealing.md) and [decision
0027](adr/0027-sealed-ahead-and-a-sealed-floor.md) promise, in a few lines for each part; "found" is what the TPM did.
A software TPM is the same in all this but in one thing: whoever copies back its state as well undoes the counter
(level L0).

"""


def page(folder: Path) -> str:
    """The whole page."""
    sections = []
    for number, part in enumerate(PARTS):
        place = folder / str(number)
        place.mkdir()
        sections.append(part.section(place))
    return INTRODUCTION + "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1])))
