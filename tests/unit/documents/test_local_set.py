# SPDX-License-Identifier: Apache-2.0
"""What a local VM is measured as: the same at each start, and nothing that tells its name to who has not its salt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.canonical import decode, encode
from documents.errors import DocumentError
from documents.event import OF_A_VM, MeasuredEvent
from documents.local_set import LocalSet, LocalVm
from documents.release import Origin
from lab.documents import LOCAL_VMS

VM = LocalVm(
    name="mine", uuid="00000000-0000-4000-8000-000000000001", fsverity="cd" * 32, length=400, number=1, salt=bytes(32)
)
SET = LocalSet(number=1, time=0, actor="root", vms=(VM,))


def test_pseudonym_and_digest_are_those_that_the_guide_tells() -> None:
    """Computed with sha256sum(1)."""
    assert VM.subject == "local/0772f091c7b2177ebde9cb7976684ecf"
    assert VM.measured == "b3bc9856399ad70284f06debea07e0716076536cfe3b884d07965934fb2bb0f8"


@given(vm=LOCAL_VMS, salt=st.binary(min_size=32, max_size=32))
def test_another_salt_is_another_vm_to_who_reads_evidence(vm: LocalVm, salt: bytes) -> None:
    other = replace(vm, salt=salt)
    assert (other.subject == vm.subject) == (other.measured == vm.measured) == (salt == vm.salt)
    assert replace(vm, fsverity="ef" * 32).subject == vm.subject, "an edited VM keeps its pseudonym"
    assert replace(vm, number=7).measured == vm.measured
    assert vm.measured_as(vm.fsverity) == vm.measured


@given(vm=LOCAL_VMS, event=st.sampled_from(sorted(OF_A_VM)))
def test_an_event_about_it_names_no_release(vm: LocalVm, event: str) -> None:
    measured = MeasuredEvent(
        event=event, subject=vm.subject, fsverity=vm.measured, vtpm="ab" * 32 if event == "vm-start" else ""
    )
    assert measured.local
    assert MeasuredEvent.parse(measured.encode()) == measured
    with pytest.raises(DocumentError):
        MeasuredEvent.parse(replace(measured, origin=Origin.of("work", 1)).encode())
    with pytest.raises(DocumentError):
        MeasuredEvent.parse(replace(measured, subject=vm.name).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"vms": (VM, replace(VM, name="aaa"))},
        {"vms": (VM, replace(VM, name="other"))},
        {"vms": (VM, VM)},
        {"vms": (replace(VM, number=2),)},
        {"vms": (replace(VM, salt=bytes(31)),)},
        {"number": 0},
    ],
)
def test_a_set_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    assert LocalSet.parse(SET.encode()) == SET
    with pytest.raises(DocumentError):
        LocalSet.parse(replace(SET, **change).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("member", ["authority", "channel", "release", "target"])
def test_nothing_in_it_can_say_that_it_came_by_a_release(member: str) -> None:
    whole = decode(SET.encode(), LocalSet.LIMIT)
    for place in (whole, whole["vms"][0]):  # type: ignore[index,call-overload]
        place[member] = "publisher"  # type: ignore[index,call-overload]
        with pytest.raises(DocumentError):
            LocalSet.parse(encode(whole))
        del place[member]  # type: ignore[union-attr,arg-type]
    assert LocalSet.parse(encode(whole)) == SET
