# SPDX-License-Identifier: Apache-2.0
"""What a start may take from memory instead of the TPM, on a real swtpm whose commands are counted.

The host's key, for just the terms on which the TPM opened it; and the registers that tell of the past alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.paths import HostPaths
from agent.registers import ONE_BOOT, REST, Registers
from agent.vm_keys import VmKeys
from content import durable
from documents.definition import Disk, VmDefinition
from documents.release import Release
from lab.measuring import booted, platform, switched
from lab.tpm import SoftwareTpm
from measure import guard
from measure.errors import KeyRefused, SealShut
from measure.pcr import BOOT_PCRS
from measure.tpm import Tpm

ONE = platform(1)
TWO = platform(2, predecessors=(ONE,), epoch=2, epochs=(1, 2))
VM = VmDefinition(
    name="desk",
    uuid="3e2d9c1a-5b7f-4d21-8c3e-0123456789ab",
    title="",
    machine="pc-q35-7.2",
    vcpus=1,
    memory_mib=64,
    disks=(Disk(name="system", image="ab" * 32, length=1, disk_class="readonly"),),
    guardians=("tpm",),
)


class Bench:
    """A host that booted into release 1, and how often its TPM is asked."""

    def __init__(self, paths: HostPaths, chip: SoftwareTpm, tpm: Tpm) -> None:
        self.paths, self.chip, self.tpm = paths, chip, tpm
        durable.make_directory(paths.vm(VM.name))
        for pcr, event in booted(ONE):
            tpm.extend(pcr, event.encode())
        self.keys = VmKeys(paths, tpm)
        self.keys.make_host_key(ONE)
        self.secret = self.open()

    def state(self) -> dict[int, bytes]:
        return self.tpm.read_pcrs("sha256", (12, 13))

    def open(self, release: Release = ONE, state: dict[int, bytes] | None = None) -> str:
        return self.keys.open(VM, release, self.state() if state is None else state)

    def asked(self, release: Release = ONE, state: dict[int, bytes] | None = None) -> bool:
        """Open the VM's key; whether the TPM was asked to unseal the host's."""
        state = self.state() if state is None else state
        before = len(self.chip.commands())
        assert self.open(release, state) == self.secret
        found = self.chip.commands()[before:]
        assert found == [] or "Unseal" in found
        return bool(found)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with SoftwareTpm(tmp_path / "t") as chip, Tpm.open(chip.tcti) as tpm:
        yield Bench(HostPaths(tmp_path), chip, tpm)


def test_the_key_is_opened_once(bench: Bench) -> None:
    assert not bench.asked()
    bench.tpm.extend(12, b"a start")
    assert not bench.asked(), "what a host records of its own is no term of the key"


def test_an_extend_by_somebody_else_ends_it(bench: Bench) -> None:
    before = bench.state()
    bench.tpm.extend(13, b"rootkit")
    with pytest.raises(SealShut):
        bench.open()
    # Nor does it help to say that nothing had happened: the refusal emptied the memory.
    with pytest.raises(SealShut):
        bench.open(state=before)


def test_a_live_switch_asks_the_tpm_again(bench: Bench) -> None:
    for pcr, event in switched(TWO):
        bench.tpm.extend(pcr, event.encode())
    with pytest.raises(SealShut):
        bench.open(ONE)
    assert bench.asked(TWO)
    assert not bench.asked(TWO)


def test_other_policies_ask_the_tpm_again(bench: Bench) -> None:
    more = replace(ONE, policies=(*ONE.policies, *TWO.policies[1:2]))
    assert bench.asked(more)
    assert bench.asked(ONE)


def test_a_register_that_was_not_read_asks_the_tpm_again(bench: Bench) -> None:
    assert bench.asked(state={})
    assert bench.asked(state={12: bench.state()[12]})


def test_another_blob_asks_the_tpm_again(bench: Bench) -> None:
    path = bench.paths.sealed_key
    blob = path.read_bytes()
    durable.remove(path)
    bench.keys.make_host_key(ONE)
    with pytest.raises(KeyRefused):
        bench.open()
    path.write_bytes(blob)
    assert bench.asked()


def test_a_raised_epoch_asks_the_tpm_again(bench: Bench) -> None:
    for pcr, event in switched(TWO):
        bench.tpm.extend(pcr, event.encode())
    assert bench.asked(TWO)
    kek = bench.keys.open_host_key(TWO)
    terms = guard.Terms(
        channel=TWO.channel, epoch=TWO.epoch, key=TWO.policy_keys[0], counter=bench.tpm.counter() + 1
    )  # fmt: skip
    sealed = guard.seal(bench.tpm, kek, terms)
    durable.write_file(bench.paths.sealed_key, sealed.encode())
    guard.shut_older(bench.tpm, sealed)
    assert bench.asked(TWO)


def test_what_is_forgotten_is_asked_for(bench: Bench) -> None:
    bench.keys.forget()
    assert bench.asked()


def test_secure_boot_is_a_term_where_it_is_judged(bench: Bench) -> None:
    bench.tpm.extend(7, b"Secure Boot's keys")
    terms = guard.Terms(
        channel=ONE.channel, epoch=ONE.epoch, key=ONE.policy_keys[0], counter=bench.tpm.counter(), local_pcrs=(7,)
    )  # fmt: skip
    kek, sealed = guard.create(bench.tpm, terms, os.urandom)
    durable.write_file(bench.paths.sealed_key, sealed.encode())
    durable.remove(bench.paths.vm(VM.name) / "key-tpm.json")
    state = bench.tpm.read_pcrs("sha256", (7, 12, 13))
    bench.secret = bench.open(state=state)
    assert bench.keys.open_host_key(ONE) == kek
    assert not bench.asked(state=state)
    assert bench.asked(state={12: state[12], 13: state[13]})
    bench.tpm.extend(7, b"other keys")
    with pytest.raises(SealShut):
        bench.open(state=bench.tpm.read_pcrs("sha256", (7, 12, 13)))


def test_a_start_reads_fourteen_registers_with_one_command(tmp_path: Path) -> None:
    with SoftwareTpm(tmp_path / "t") as chip, Tpm.open(chip.tcti) as tpm:
        registers = Registers(tpm)

        def read(*, anew: bool = False) -> tuple[dict[int, bytes], int]:
            before = len(chip.commands())
            values = registers.read(boot=True, anew=anew)
            assert sorted(values) == [*BOOT_PCRS, 12, 13]
            return values, chip.commands()[before:].count("PCR_Read")

        first, commands = read()
        assert commands == 2
        assert read() == (first, 1)
        for index in (10, 11, 12, 13):
            tpm.extend(index, b"grows")
            values, commands = read()
            assert (values[index], commands) == (tpm.read_pcrs("sha256", [index])[index], 1)
        for index in ONE_BOOT:
            tpm.extend(index, b"another boot?")
            assert read()[1] == 2
        tpm.extend(REST[0], b"later")
        old, commands = read()
        assert (old[REST[0]], commands) == (first[REST[0]], 1), "it tells of the past, which is as it was"
        new, commands = read(anew=True)
        assert (new[REST[0]], commands) == (tpm.read_pcrs("sha256", [REST[0]])[REST[0]], 2)


def test_a_host_without_an_image_reads_its_own_two(tmp_path: Path) -> None:
    with SoftwareTpm(tmp_path / "t") as chip, Tpm.open(chip.tcti) as tpm:
        before = len(chip.commands())
        assert sorted(Registers(tpm).read(boot=False, anew=True)) == [12, 13]
        assert chip.commands()[before:] == ["PCR_Read"]
