# SPDX-License-Identifier: Apache-2.0
"""What people write becomes a document, or one line that says where it is wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePath

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from content.fsverity import Measured
from documents.definition import RESTARTS, Disk, VmDefinition
from documents.errors import DocumentError, Exit
from documents.security_policy import SecurityPolicy
from documents.tables import LIMIT, read_table
from publisher.definitions import read_definition, read_policy
from publisher.errors import RecipeWrong

SOURCE = PurePath("vm.toml")
IMAGE = Measured(fsverity="ab" * 32, length=4096)
GOOD = """\
name = "demo"
uuid = "00000000-0000-4000-8000-000000000001"
title = "Demo"
machine = "pc-q35-7.2"
vcpus = 1
memory_mib = 256
guardians = ["tpm"]

[[disks]]  # the first
name = "root"
image = "demo"
class = "readonly"

[[disks]]
name = "data"
image = "demo"
class = "readonly"
"""


def read(text: str) -> VmDefinition:
    return read_definition(text.encode(), SOURCE, {"demo": IMAGE})


def test_a_definition_names_its_images_by_digest() -> None:
    definition = read(GOOD)
    assert definition.disks[0] == Disk(name="root", image=IMAGE.fsverity, length=4096, disk_class="readonly")
    assert VmDefinition.parse(definition.encode()) == definition


@pytest.mark.parametrize("restart", RESTARTS)
def test_a_restart_policy_may_be_written_out_and_has_one_form(restart: str) -> None:
    definition = read(GOOD.replace("vcpus", f'restart = "{restart}"\nvcpus', 1))
    assert definition.restart == restart
    assert (b'"restart"' in definition.encode()) is (restart != "at-next-stop")
    assert read(GOOD).restart == "at-next-stop"


@pytest.mark.parametrize("btf", ["any", "ab" * 32])
def test_a_vm_may_be_read_only_where_its_definition_says_so(btf: str) -> None:
    definition = read(f'{GOOD}[introspection]\nbtf = "{btf}"\n')
    assert definition.introspection == btf.replace("any", "")
    assert VmDefinition.parse(definition.encode()) == definition
    assert read(GOOD).introspection is None
    assert b"introspection" not in read(GOOD).encode()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("vcpus = 1", 'restart = "soon"\nvcpus = 1', "line 5: key 'restart' is not one of the known values"),
        ("vcpus = 1", "vcpus = 1\nintrospection = true", "line 6: introspection is not a table"),
        ("[[disks]]  #", '[introspection]\nbtf = "yes"\n[[disks]]  #', "line 10: key 'btf' is not in its form"),
        ("[[disks]]  #", "[introspection]\n[[disks]]  #", "key 'btf' is missing"),
        ("vcpus = 1", "vcpus = 0", "line 5: key 'vcpus' is not between 1 and 255"),
        ("vcpus = 1", "vcpus = 1.5", "line 5: key 'vcpus' is not an integer"),
        ("vcpus = 1", "vcpus = 2026-11-23", "line 5: key 'vcpus' is not an integer"),
        ("vcpus = 1", "vcpus = true", "line 5: key 'vcpus' is not an integer"),
        ("vcpus = 1", "cpus = 1", "key 'vcpus' is missing"),
        ("vcpus = 1", "vcpus = 1\nnested.key = 1", "line 6: key 'nested' is unknown"),
        ("guardians", "colour = 1\nguardians", "line 7: key 'colour' is unknown"),
        ('["tpm"]', '["tpm", "fleet"]', "line 7: key 'guardians' is empty or names an unknown guardian"),
        ('image = "demo"\nclass = "readonly"\n\n', 'image = "nix"\nclass = "readonly"\n\n', "line 11: key 'image'"),
        ('name = "data"', 'name = "data"\nbus = "ide"', "line 16: key 'bus' is unknown"),
        ('name = "data"', 'name = "Data!"', "line 15: key 'name' is not in its form"),
        ('name = "data"', 'name = "root"', "line 9: key 'disks' repeats an item"),
        ("machine", "machine = =", "(at line 4, column 11)"),
        ('title = "Demo"', 'title = "Demo"\ntitle = "Again"', "(at line 4, column"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: str) -> None:
    with pytest.raises(RecipeWrong) as caught:
        read(GOOD.replace(old, new, 1))
    assert line in caught.value.line()
    assert "vm.toml" in caught.value.line()
    assert caught.value.exit == Exit.USAGE


def test_disks_that_are_no_tables_are_refused() -> None:
    head = GOOD.partition("[[disks]]")[0]
    for disks in ("disks = 1", "disks = [1]", "[disks]", "disks = []"):
        with pytest.raises(RecipeWrong, match="disks"):
            read(head.replace("guardians", f"{disks}\nguardians") if "=" in disks else f"{head}{disks}\n")


def test_what_is_no_toml_is_refused_in_one_line() -> None:
    for untrusted in (b"\xff", b"a = [" * 5000, b"a = " + b"9" * 5000, b"x" * (LIMIT + 1), b'a = "\x00"'):
        with pytest.raises(RecipeWrong) as caught:
            read_definition(untrusted, SOURCE, {})
        assert "\n" not in caught.value.line()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["name", "uuid", "title", "machine", "vcpus", "memory_mib", "guardians", "disks", "other"])


@given(changes=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_any_toml_is_read_or_refused(changes: dict[str, object]) -> None:
    table = tomlkit.parse(GOOD).unwrap()
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    try:
        text = tomlkit.dumps(table)
    except (ValueError, TypeError):
        return
    # Any other exception would be a crash on bad input.
    with suppress(DocumentError):
        assert VmDefinition.parse(read(text).encode())


@given(untrusted=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_refused(untrusted: bytes) -> None:
    with pytest.raises(DocumentError):
        read_definition(untrusted, SOURCE, {})


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    name=NAMES,
    uuid=st.uuids(),
    title=st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=120),
    vcpus=st.integers(1, 255),
    memory=st.integers(64, 2**22),
    disks=st.lists(NAMES, min_size=1, max_size=16, unique=True),
)
def test_what_was_written_is_what_is_signed(
    name: str, uuid: object, title: str, vcpus: int, memory: int, disks: list[str]
) -> None:
    written = {
        "name": name,
        "uuid": str(uuid),
        "title": title,
        "machine": "pc-q35-7.2",
        "vcpus": vcpus,
        "memory_mib": memory,
        "guardians": ["tpm"],
        "disks": [{"name": disk, "image": "demo", "class": "readonly"} for disk in disks],
    }
    assert read(tomlkit.dumps(written)) == VmDefinition(
        name=name,
        uuid=str(uuid),
        title=title,
        machine="pc-q35-7.2",
        vcpus=vcpus,
        memory_mib=memory,
        disks=tuple(
            Disk(name=disk, image=IMAGE.fsverity, length=IMAGE.length, disk_class="readonly") for disk in disks
        ),
        guardians=("tpm",),
    )


def test_a_security_policy_may_be_written_in_any_order() -> None:
    text = b'allow = ["AllowSoftwareTpm", "AllowEmulation"]\nmax_vcpus = 4\nmax_memory_mib = 4096\n'
    expected = SecurityPolicy(allow=("AllowEmulation", "AllowSoftwareTpm"), max_vcpus=4, max_memory_mib=4096)
    assert read_policy(read_table(text, SOURCE)) == expected


@pytest.mark.parametrize("rule", ["always", "once-per-boot"])
def test_a_policy_may_say_how_often_files_are_read(rule: str) -> None:
    text = f'allow = []\nmax_vcpus = 4\nmax_memory_mib = 4096\ndigests = "{rule}"\n'.encode()
    policy = read_policy(read_table(text, SOURCE, RecipeWrong))
    assert policy.digests == rule
    # The default is written in one way only: a policy from before is the same document.
    assert ("digests" in policy.members()) == (rule != "always")
    with pytest.raises(RecipeWrong):
        read_policy(read_table(text.replace(rule.encode(), b"never"), SOURCE, RecipeWrong))


@pytest.mark.parametrize("allow", ['["AllowEverything"]', '["AllowEmulation", "AllowEmulation"]', "[1]", '"x"'])
def test_an_allowance_that_nobody_knows_is_refused(allow: str) -> None:
    text = f"allow = {allow}\nmax_vcpus = 4\nmax_memory_mib = 4096\n"
    with pytest.raises(RecipeWrong, match="line 1: key 'allow'"):
        read_policy(read_table(text.encode(), SOURCE, RecipeWrong))
