# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema of a definition and the reader say the same, by examples and at random."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from documents.definition import (
    DISK_CLASSES,
    GUARDIANS,
    IMAGELESS,
    MAX_DISKS,
    MEMORY_MIB,
    RESTARTS,
    VCPUS,
    VmDefinition,
)
from documents.definition_schema import definition_schema
from documents.definition_toml import read_defaults, read_definition, write_definition
from documents.errors import DocumentError, Exit, TomlWrong
from documents.tables import Table, read_table

SCHEMA = Draft202012Validator(definition_schema())
IMAGES = {"debian": SimpleNamespace(fsverity="ab" * 32, length=4096)}
GOOD: dict[str, Any] = {
    "name": "desk",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "title": "",
    "machine": "pc-q35-7.2",
    "vcpus": 2,
    "memory_mib": 2048,
    "guardians": ["tpm", "recovery"],
    "restart": "now",
    "introspection": {"btf": "any"},
    "networks": [{"name": "office", "address": "10.0.0.7"}, {"name": "lab"}],
    "devices": ["scanner", "token"],
    "disks": [{"name": "root", "image": "debian", "class": DISK_CLASSES[0]}],
}


def reads(written: dict[str, Any]) -> bool:
    """Whether the reader takes it, as TOML and not only as values."""
    try:
        read_definition(read_table(tomlkit.dumps(written).encode(), PurePath("vm.toml")), IMAGES)
    except DocumentError:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(definition_schema())


def test_the_schema_names_every_member_of_the_document_and_no_other() -> None:
    definition = read_definition(Table(copy.deepcopy(GOOD), PurePath("vm.toml"), ""), IMAGES)
    assert set(definition_schema()["properties"]) == set(definition.members())  # type: ignore[arg-type]


OPTIONAL = ("restart", "introspection", "networks", "devices")
EXAMPLES: dict[str, Callable[[dict[str, Any]], object]] = {
    "as it is": lambda vm: vm,
    "without restart": lambda vm: vm.pop("restart"),
    "without introspection": lambda vm: vm.pop("introspection"),
    "introspection of one kernel": lambda vm: vm.update(introspection={"btf": "0f" * 32}),
    "a title": lambda vm: vm.update(title="Büro, 2. Stock"),
    "without networks": lambda vm: vm.pop("networks"),
    "without devices": lambda vm: vm.pop("devices"),
    "a disk for data": lambda vm: vm["disks"].append({"name": "data", "size_mib": 1, "class": "persistent"}),
    **{
        f"a disk that is {name}": lambda vm, to=name: vm["disks"][0].update({"class": to})
        for name in DISK_CLASSES
        if name not in IMAGELESS
    },
    "tpm alone": lambda vm: vm.update(guardians=["tpm"]),
    "least": lambda vm: vm.update(vcpus=VCPUS[0], memory_mib=MEMORY_MIB[0]),
    "most": lambda vm: vm.update(vcpus=VCPUS[1], memory_mib=MEMORY_MIB[1]),
    "most disks": lambda vm: vm.update(disks=[{**vm["disks"][0], "name": f"d{n}"} for n in range(MAX_DISKS)]),
    **{f"restart {restart}": lambda vm, to=restart: vm.update(restart=to) for restart in RESTARTS},
}
COUNTER_EXAMPLES: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"no {name}": lambda vm, name=name: vm.pop(name) for name in GOOD if name not in OPTIONAL},
    "an unknown key": lambda vm: vm.update(colour="red"),
    "a release's authority claimed": lambda vm: vm.update(authority="publisher"),
    "a name with a slash": lambda vm: vm.update(name="a/b"),
    "a name in capitals": lambda vm: vm.update(name="Desk"),
    "a name with a line feed": lambda vm: vm.update(name="desk\n"),
    "a long name": lambda vm: vm.update(name="a" * 64),
    "an empty name": lambda vm: vm.update(name=""),
    "a UUID in capitals": lambda vm: vm.update(uuid=vm["uuid"].replace("8000", "ABCD")),
    "a title that hides": lambda vm: vm.update(title="a\u202eb"),
    "a long title": lambda vm: vm.update(title="a" * 121),
    "a machine without version": lambda vm: vm.update(machine="q35"),
    "no processor": lambda vm: vm.update(vcpus=0),
    "too many processors": lambda vm: vm.update(vcpus=VCPUS[1] + 1),
    "half a processor": lambda vm: vm.update(vcpus=0.5),
    "processors as text": lambda vm: vm.update(vcpus="2"),
    "true processors": lambda vm: vm.update(vcpus=True),
    "little memory": lambda vm: vm.update(memory_mib=MEMORY_MIB[0] - 1),
    "much memory": lambda vm: vm.update(memory_mib=MEMORY_MIB[1] + 1),
    "no guardian": lambda vm: vm.update(guardians=[]),
    "an unknown guardian": lambda vm: vm.update(guardians=["tpm", "neighbour"]),
    "recovery alone": lambda vm: vm.update(guardians=["recovery"]),
    "a guardian twice": lambda vm: vm.update(guardians=["tpm", "tpm"]),
    "an unknown restart": lambda vm: vm.update(restart="never"),
    "introspection of nothing": lambda vm: vm.update(introspection={}),
    "introspection as text": lambda vm: vm.update(introspection="any"),
    "introspection with more": lambda vm: vm["introspection"].update(write=True),
    "no disks": lambda vm: vm.update(disks=[]),
    "too many disks": lambda vm: vm.update(disks=[{**vm["disks"][0], "name": f"d{n}"} for n in range(MAX_DISKS + 1)]),
    "a disk without an image": lambda vm: vm["disks"][0].pop("image"),
    "a disk for data that has an image": lambda vm: vm["disks"].append(
        {**vm["disks"][0], "name": "d", "class": "persistent"}
    ),
    "a disk for data without a size": lambda vm: vm["disks"].append({"name": "d", "class": "persistent"}),
    "a disk for data of no size": lambda vm: vm["disks"].append({"name": "d", "size_mib": 0, "class": "persistent"}),
    "a disk with an image and a size": lambda vm: vm["disks"][0].update(size_mib=8),
    "nothing but a disk for data": lambda vm: vm.update(disks=[{"name": "d", "size_mib": 8, "class": "persistent"}]),
    "networks that are none": lambda vm: vm.update(networks=[]),
    "a network without a name": lambda vm: vm.update(networks=[{"address": "10.0.0.7"}]),
    "a network with more": lambda vm: vm["networks"][0].update(mac="52:54:00:00:00:01"),
    "a network at a name": lambda vm: vm["networks"][0].update(address="router"),
    "too many networks": lambda vm: vm.update(networks=[{"name": f"n{n}"} for n in range(9)]),
    "devices that are none": lambda vm: vm.update(devices=[]),
    "a device twice": lambda vm: vm.update(devices=["token", "token"]),
    "a disk of an unknown class": lambda vm: vm["disks"][0].update({"class": "shared"}),
    "a disk with more": lambda vm: vm["disks"][0].update(path="/etc/shadow"),
    "disks that are none": lambda vm: vm.update(disks=["debian"]),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_one_for_both(example: str) -> None:
    vm = copy.deepcopy(GOOD)
    EXAMPLES[example](vm)
    assert (SCHEMA.is_valid(vm), reads(vm)) == (True, True)


@pytest.mark.parametrize("example", COUNTER_EXAMPLES)
def test_a_counter_example_is_one_for_both(example: str) -> None:
    vm = copy.deepcopy(GOOD)
    COUNTER_EXAMPLES[example](vm)
    assert (SCHEMA.is_valid(vm), reads(vm)) == (False, False)


@pytest.mark.parametrize(
    "change",
    [
        {"disks": [GOOD["disks"][0], GOOD["disks"][0]]},
        {"disks": [{**GOOD["disks"][0], "image": "elsewhere"}]},
    ],
)
def test_what_a_schema_cannot_say_the_reader_refuses(change: dict[str, Any]) -> None:
    vm = {**GOOD, **change}
    assert (SCHEMA.is_valid(vm), reads(vm)) == (True, False)


VALUES = st.recursive(
    st.booleans()
    | st.integers(-2, 2**23)
    | st.text(max_size=70)
    | st.sampled_from(["tpm", "recovery", "any", "now", "readonly", "pc-q35-7.2", "debian", "a\n"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "image", "class", "btf"]), inner)
    ),
    max_leaves=6,
)


@given(changes=st.dictionaries(st.sampled_from([*GOOD, "other"]), VALUES, max_size=3))
def test_whatever_is_written_both_say_the_same(changes: dict[str, Any]) -> None:
    vm = {**copy.deepcopy(GOOD), **changes}
    try:
        read = VmDefinition.parse(read_definition(Table(vm, PurePath("vm.toml"), ""), IMAGES).encode())
    except DocumentError:
        disks = vm.get("disks")
        known = [disk.get("image") == "debian" for disk in disks if isinstance(disk, dict)] if disks else []
        named = [disk.get("name") for disk in disks if isinstance(disk, dict)] if isinstance(disks, list) else []
        told = all(known) and len(set(map(str, named))) == len(named)
        assert not (told and SCHEMA.is_valid(vm))
    else:
        assert read.guardians[0] in GUARDIANS
        assert SCHEMA.is_valid(vm)


def test_a_mistake_is_told_by_its_own_code_with_its_line() -> None:
    table = read_table(f'colour = "red"\n{tomlkit.dumps(GOOD)}'.encode(), PurePath("vm.toml"))
    with pytest.raises(TomlWrong, match="line 1: key 'colour' is unknown") as caught:
        read_definition(table, IMAGES)
    assert (caught.value.code, caught.value.exit) == ("DC040", Exit.USAGE)


def test_defaults_are_read_as_strictly_as_a_definition() -> None:
    def read(text: str) -> dict[str, Any]:
        return read_defaults(read_table(text.encode(), PurePath("vm-defaults.toml")))

    assert read("") == {}
    assert read('vcpus = 4\nguardians = ["tpm", "recovery"]\n') == {"vcpus": 4, "guardians": ["tpm", "recovery"]}
    assert read('restart = "at-next-stop"\n') == {"restart": RESTARTS[0]}
    for wrong in ("vcpus = 0", 'name = "desk"', "disks = []", 'guardians = ["recovery"]', "x = 1", "vcpus = "):
        with pytest.raises(TomlWrong, match=r"vm-defaults\.toml"):
            read(wrong)


@given(
    vcpus=st.integers(*VCPUS), restart=st.sampled_from(RESTARTS), btf=st.sampled_from([None, "any", "0f" * 32]),
    known=st.booleans(),
)  # fmt: skip
def test_what_is_written_back_reads_the_same(*, vcpus: int, restart: str, btf: str | None, known: bool) -> None:
    vm = {**copy.deepcopy(GOOD), "vcpus": vcpus, "restart": restart, "introspection": {"btf": btf}}
    if btf is None:
        del vm["introspection"]
    definition = read_definition(Table(vm, PurePath("vm.toml"), ""), IMAGES)
    digest = IMAGES["debian"].fsverity
    written = write_definition(definition, {digest: "debian"} if known else {})
    names = {"debian": IMAGES["debian"], f"sha256:{digest}": IMAGES["debian"]}
    assert read_definition(Table(written, PurePath("vm.toml"), ""), names) == definition
