# SPDX-License-Identifier: Apache-2.0
"""Reference values go out as a CoRIM and come back as the same sets, from whom one trusts and from nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from documents.release import ReferenceValue
from keys.errors import KeyFileMalformed
from lab import measuring
from lab.boot_logs import IMAGE
from lab.corims import NOW, SMALL, CorimKey, cbor, environments, head, tag
from measure.corim import PROFILE, Environment, encode_corim, environment, sign_corim
from measure.corim_reader import read_corim_of_verified_target, read_signed_corim, reference_values
from measure.errors import CorimRefused, CorimUntrusted

KEY = CorimKey()
SETS = st.lists(environments(), min_size=1, max_size=3, unique_by=lambda entry: (entry.channel, entry.number))


def read(data: bytes) -> tuple[Environment, ...]:
    return read_corim_of_verified_target(data, NOW)


@given(SETS)
def test_what_was_written_is_read_back(sets: list[Environment]) -> None:
    data = encode_corim(sets)
    assert read(data) == tuple(sets)
    assert encode_corim(read(data)) == data


@settings(max_examples=20)
@given(SETS, st.sampled_from((ec.SECP256R1(), ec.SECP384R1())))
def test_what_was_signed_is_read_with_its_key(sets: list[Environment], curve: ec.EllipticCurve) -> None:
    key = CorimKey(curve)
    assert read_signed_corim(sign_corim(encode_corim(sets), key.private, "tests"), key.public, NOW) == tuple(sets)


# Written by hand from the draft's CDDL: an encoder that changed would be found here.
def measurement(key: str, values: dict[int, Any]) -> dict[int, Any]:
    return {0: key, 1: values}


def verity(byte: int) -> dict[int, Any]:
    return {2: [["fsverity-sha256", bytes([byte]) * 32]]}


def sha256(byte: int) -> dict[int, Any]:
    return {2: [[1, bytes([byte]) * 32]]}


def pcrs(**values: int) -> dict[int, Any]:
    return {14: {int(index[1:]): [[1, bytes([byte]) * 32]] for index, byte in values.items()}}


MEASUREMENTS = [
    measurement("component/repository", verity(0xAA)),
    measurement("component/vmm/firmware-code", verity(0xBB)),
    measurement("registers/fresh/0/1", pcrs(p11=0xCC, p13=0xDD)),
    measurement("registers/switch/6/2", pcrs(p13=0xEE)),
    measurement("registers/firmware/0/3", pcrs(p0=0xFF)),
    measurement("boot/application", sha256(1)),
    measurement("boot/section/.linux", sha256(2)),
    measurement("file/usr/bin/qemu", {2: [[1, b"\3" * 32], ["fsverity-sha256", b"\4" * 32]]}),
]
WHERE = {0: {1: "vmgate", 2: "platform", 4: 7}}


def comid(measurements: list[Any] | None = None, where: Any = WHERE, **members: Any) -> memoryview:
    triples = [[where, MEASUREMENTS if measurements is None else measurements]]
    value = {1: {0: "vmgate:platform/7"}, 4: {0: triples}} | members.get("more", {})
    inner = cbor(dict(sorted(value.items())))
    return memoryview(tag(members.get("number", 506), cbor(inner)))


def corim(*comids: memoryview, profile: Any = None, number: int = 501, more: dict[int, Any] | None = None) -> bytes:
    uri = memoryview(tag(32, cbor(PROFILE))) if profile is None else profile
    value = {0: "vmgate:platform/7", 1: list(comids or (comid(),)), 3: uri} | (more or {})
    return tag(number, cbor(dict(sorted(value.items()))))


def test_the_encoding_is_the_drafts() -> None:
    assert encode_corim([SMALL]) == corim()
    assert read(corim()) == (SMALL,)


def timed(not_after: int, not_before: int | None = None) -> dict[int, Any]:
    times = {} if not_before is None else {0: memoryview(tag(1, cbor(not_before)))}
    return times | {1: memoryview(tag(1, cbor(not_after)))}


ENTITY = [{0: "Publisher", 2: [1]}]
ACCEPTED = {
    "entities": corim(more={5: ENTITY}),
    "language and entities of a tag": corim(comid(more={0: "en", 2: ENTITY})),
    "valid": corim(more={4: timed(NOW + 1, NOW - 1)}),
    "valid to the second": corim(more={4: timed(NOW)}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_changes_no_value_is_passed_over(name: str) -> None:
    assert read(ACCEPTED[name]) == (SMALL,)


def other(at: int, measurement: dict[int, Any]) -> bytes:
    return corim(comid([*MEASUREMENTS[:at], measurement, *MEASUREMENTS[at + 1 :]]))


def shared(levels: int) -> bytes:
    """A list of a list twice, of a list twice and so on, in a few bytes for each: nobody could write it out."""
    value = tag(28, cbor([0]))
    for number in range(levels):
        value = tag(28, cbor([memoryview(value), memoryview(tag(29, cbor(number + 1)))]))
    return tag(501, value)


NO_TRIPLES = memoryview(tag(506, cbor(cbor({1: {0: "x"}, 4: {0: []}}))))
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "no CBOR": b"\xff",
    "JSON": b'{"environments":[]}',
    "a number": cbor(501),
    "no tag": cbor({0: "x"}),
    "another tag": corim(number=500),
    "nested too deeply": b"\x81" * 100_000 + b"\0",
    "a length without its bytes": b"\x5b" + b"\xff" * 8,
    "a list without its items": b"\x9b" + b"\x7f" * 8,
    "something behind it": corim() + b"\0",
    "cut off": corim()[:-1],
    "no profile": tag(501, cbor({0: "x", 1: [comid()]})),
    "another profile": corim(profile=memoryview(tag(32, cbor("tag:example,2026:other")))),
    "a profile that is no URI": corim(profile=PROFILE),
    "no tags": tag(501, cbor({0: "x", 1: [], 3: memoryview(tag(32, cbor(PROFILE)))})),
    "a tag that is no CoMID": corim(comid(number=505)),
    "depends on another": corim(more={2: [{0: "x"}]}),
    "an unknown member": corim(more={9: 1}),
    "linked tags": corim(comid(more={3: [{0: "x", 1: 1}]})),
    "a CoMID's unknown member": corim(comid(more={7: 1})),
    "other triples": corim(comid(more={4: {1: [[WHERE, MEASUREMENTS]]}})),
    "endorsed values beside": corim(comid(more={4: {0: [[WHERE, MEASUREMENTS]], 1: [[WHERE, MEASUREMENTS]]}})),
    "two triples in one tag": corim(comid(more={4: {0: [[WHERE, MEASUREMENTS]] * 2}})),
    "no triple": corim(NO_TRIPLES),
    "an environment twice": corim(comid(), comid()),
    "an instance": corim(comid(where=WHERE | {1: b"x"})),
    "another vendor": corim(comid(where={0: {1: "other", 2: "platform", 4: 7}})),
    "no channel": corim(comid(where={0: {1: "vmgate", 4: 7}})),
    "a channel that is no name": corim(comid(where={0: {1: "vmgate", 2: "../x", 4: 7}})),
    "release 0": corim(comid(where={0: {1: "vmgate", 2: "platform", 4: 0}})),
    "release true": corim(comid(where={0: {1: "vmgate", 2: "platform", 4: memoryview(b"\xf5")}})),
    "no measurement": corim(comid([])),
    "no component": corim(comid(MEASUREMENTS[2:])),
    "a component twice": corim(comid([MEASUREMENTS[0], *MEASUREMENTS])),
    "a key that is a number": other(0, {0: 1, 1: verity(1)}),
    "no key": other(0, {1: verity(1)}),
    "a long key": other(0, measurement("component/" + "a" * 300, verity(1))),
    "a key of no kind": other(0, measurement("firmware", verity(1))),
    "a component that is no name": other(0, measurement("component/../x", verity(1))),
    "a component by SHA-256": other(0, measurement("component/repository", sha256(1))),
    "two digests": other(0, measurement("component/repository", {2: verity(1)[2] * 2})),
    "no digest": other(0, measurement("component/repository", {2: []})),
    "a short digest": other(0, measurement("component/repository", {2: [["fsverity-sha256", b"x" * 31]]})),
    "a digest that is a text": other(0, measurement("component/repository", {2: [["fsverity-sha256", "x" * 32]]})),
    "a version beside": other(0, measurement("component/repository", verity(1) | {11: "x"})),
    "authorised by a key": other(0, measurement("component/repository", verity(1)) | {2: [1]}),
    "a boot value of no name": other(5, measurement("boot/a b", sha256(1))),
    "a boot value by another hash": other(5, measurement("boot/application", {2: [[7, b"x" * 48]]})),
    "a file without fs-verity": other(7, measurement("file/usr/bin/qemu", sha256(3))),
    "a file that is no path": other(7, measurement("file/../etc", MEASUREMENTS[7][1])),
    "files that are not sorted": corim(comid([*MEASUREMENTS, measurement("file/usr/bin/a", MEASUREMENTS[7][1])])),
    "registers of no entry": other(2, measurement("registers/warm/0/1", pcrs(p13=1))),
    "registers counted wrongly": other(2, measurement("registers/fresh/0/2", pcrs(p13=1))),
    "a fresh boot from a release": other(2, measurement("registers/fresh/6/1", pcrs(p13=1))),
    "a switch from nothing": other(3, measurement("registers/switch/0/2", pcrs(p13=1))),
    "a register that is no PCR": other(2, measurement("registers/fresh/0/1", pcrs(p24=1))),
    "a register named by a text": other(2, measurement("registers/fresh/0/1", {14: {"13": [[1, b"x" * 32]]}})),
    "two values for a register": other(2, measurement("registers/fresh/0/1", {14: {13: [[1, b"x" * 32]] * 2}})),
    "no register": other(2, measurement("registers/fresh/0/1", {14: {}})),
    "the same registers twice": other(3, measurement("registers/fresh/0/2", MEASUREMENTS[2][1])),
    "over": corim(more={4: timed(NOW - 1)}),
    "not yet": corim(more={4: timed(NOW + 2, NOW + 1)}),
    "no end": corim(more={4: {0: memoryview(tag(1, cbor(0)))}}),
    "a validity that is a number": corim(more={4: {1: NOW + 1}}),
    "a validity that is a text": corim(more={4: {1: memoryview(tag(0, cbor("2030-01-01T00:00:00Z")))}}),
    "a member twice": tag(501, b"\xa4" + cbor({0: "x", 1: [comid()], 3: memoryview(tag(32, cbor(PROFILE)))})[1:]
                          + cbor(3) + tag(32, cbor(PROFILE))),
    "members in another order": tag(501, cbor({1: [comid()], 0: "x", 3: memoryview(tag(32, cbor(PROFILE)))})),
    "a long integer": corim().replace(tag(32, b""), b"\xd9\0\x20"),
    "an indefinite list": corim().replace(cbor(1) + head(4, 1), cbor(1) + b"\x9f", 1) + b"\xff",
    "shared values": tag(501, tag(28, cbor([memoryview(tag(29, cbor(0))), memoryview(tag(29, cbor(0)))]))),
    "values shared more and more": shared(30),
    "kept strings": tag(256, cbor(["a" * 20, memoryview(tag(25, cbor(0)))])),
    "a pattern": tag(501, tag(35, cbor("(a+)+$"))),
    "a float": tag(501, b"\xfb" + bytes(8)),
    "signed, and read as what is not": sign_corim(corim(), KEY.private, "tests"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_in_its_form_is_refused(name: str) -> None:
    with pytest.raises(CorimRefused) as caught:
        read(REFUSED[name])
    assert caught.value.line().isprintable()


def test_it_may_be_cut_off_nowhere() -> None:
    for data in (corim(), sign_corim(corim(), KEY.private, "tests")):
        for length in range(len(data)):
            with pytest.raises((CorimRefused, CorimUntrusted)):
                read(data[:length])
            with pytest.raises((CorimRefused, CorimUntrusted)):
                read_signed_corim(data[:length], KEY.public, NOW)


def test_no_bit_of_a_signed_one_can_be_changed() -> None:
    signed = sign_corim(encode_corim([SMALL]), KEY.private, "tests")
    assert read_signed_corim(signed, KEY.public, NOW) == (SMALL,)
    for at in range(len(signed)):
        changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
        with pytest.raises((CorimRefused, CorimUntrusted)):
            read_signed_corim(changed, KEY.public, NOW)


def test_only_the_key_that_is_trusted_counts() -> None:
    data = encode_corim([SMALL])
    signed = sign_corim(data, KEY.private, "tests")
    for key in (CorimKey(seed=2), CorimKey(ec.SECP384R1())):
        with pytest.raises(CorimUntrusted):
            read_signed_corim(signed, key.public, NOW)
    with pytest.raises(CorimUntrusted, match="not signed"):
        read_signed_corim(data, KEY.public, NOW)


PROTECTED = {1: -7, 3: "application/rim+cbor", 8: cbor({0: {0: "tests"}})}


def signed_by_hand(protected: dict[int, Any], unprotected: dict[int, Any] | None = None) -> bytes:
    """A whole signature over any header, by the right key."""
    return KEY.signed(cbor(protected), corim(), unprotected)


def test_a_signature_made_by_hand_is_read() -> None:
    assert read_signed_corim(signed_by_hand(PROTECTED), KEY.public, NOW) == (SMALL,)


HEADERS: dict[str, bytes] = {
    "another algorithm": signed_by_hand(PROTECTED | {1: -35}),
    "no algorithm": signed_by_hand({3: PROTECTED[3], 8: PROTECTED[8]}),
    "another type": signed_by_hand(PROTECTED | {3: "application/json"}),
    "no type": signed_by_hand({1: -7, 8: PROTECTED[8]}),
    "no signer": signed_by_hand({1: -7, 3: PROTECTED[3]}),
    "what must be understood": signed_by_hand({1: -7, 2: [99], 3: PROTECTED[3], 8: PROTECTED[8], 99: 1}),
    "claims that are not read": signed_by_hand(PROTECTED | {15: {4: 0}}),
    "a key beside the signature": signed_by_hand(PROTECTED, {4: b"key"}),
    "a signature that is over": signed_by_hand(PROTECTED | {8: cbor({0: {0: "tests"}, 1: timed(NOW - 1)})}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_says_something_else_is_refused(name: str) -> None:
    with pytest.raises(CorimRefused):
        read_signed_corim(HEADERS[name], KEY.public, NOW)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\n", CorimKey(ec.SECP521R1()).public])
def test_keys_that_are_none(pem: bytes) -> None:
    signed = sign_corim(encode_corim([SMALL]), KEY.private, "tests")
    with pytest.raises(KeyFileMalformed):
        read_signed_corim(signed, pem, NOW)
    with pytest.raises(KeyFileMalformed):
        sign_corim(encode_corim([SMALL]), pem, "tests")
    with pytest.raises(KeyFileMalformed):
        sign_corim(encode_corim([SMALL]), CorimKey(ec.SECP521R1()).private, "tests")


def test_a_release_tells_what_its_hosts_measure() -> None:
    switched = environment(measuring.platform(2, predecessors=[measuring.platform(1)]))
    assert {(r.entry, r.predecessor) for r in switched.registers} == {("fresh", 0), ("switch", 1)}
    release = measuring.platform(2, image=IMAGE)
    found = environment(release, IMAGE)
    assert found.components == release.reference
    assert {(r.entry, r.predecessor) for r in found.registers} == {("fresh", 0), ("firmware", 0)}
    signed = {policy.pcrs for policy in release.policies}
    assert {r.pcrs for r in found.registers if r.entry != "firmware"} == signed
    assert [r.pcrs for r in found.registers if r.entry == "firmware"] == [((0, IMAGE.firmware[0]),)]
    assert dict(found.boot)["section/.linux"] == dict(IMAGE.sections)[".linux"]
    assert found.files == IMAGE.files
    assert environment(release).files == ()
    assert read(encode_corim([found])) == (found,)


def test_sets_of_two_releases_are_never_mixed() -> None:
    """During an update both count, each as a whole: a host with a part of each fits none."""
    first, second = measuring.platform(1), measuring.platform(2)
    sets = read(encode_corim([environment(first), environment(second)]))
    assert reference_values(sets, "platform", 1) == first.reference
    assert reference_values(sets, "platform", 2) == second.reference
    assert first.reference != second.reference
    for channel, number in (("platform", 3), ("other", 1)):
        with pytest.raises(CorimRefused):
            reference_values(sets, channel, number)


def test_what_has_no_reference_values_is_no_corim() -> None:
    with pytest.raises(CorimRefused):
        environment(measuring.workload(1, "vm"))
    with pytest.raises(CorimRefused):
        environment(replace(measuring.platform(1), reference=()))
    with pytest.raises(CorimRefused):
        encode_corim([])
    with pytest.raises(CorimRefused):
        encode_corim([SMALL, replace(SMALL, components=(ReferenceValue(component="x", fsverity="00" * 32),))])
