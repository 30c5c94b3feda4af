# SPDX-License-Identifier: Apache-2.0
"""roles.toml is read strictly: what is wrong with it grants nothing to anybody, and what is added leaves the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotFound, RolesWrong
from agent.role_file import MAX_GRANTS, MAX_VMS, RoleFile, encode, parse
from agent.roles import EVERY, Grant
from documents.management import AUDITOR, OPERATOR, ROLES, USER

GOOD = b"""\
# Those who run the desks.
[[grant]]
role = "operator"
group = "vm-operators"

[[grant]]
role = "user"
user = "ann@corp.example"
vms = ["desk", "lab-2"]
"""
GRANTS = (
    Grant(role=OPERATOR, kind="group", name="vm-operators"),
    Grant(role=USER, kind="user", name="ann@corp.example", vms=("desk", "lab-2")),
)
BAD = {
    "not TOML": (b"[[grant]", "not TOML"),
    "not UTF-8": (b"\xff", "not TOML"),
    "unknown key": (b"admin = 1", "'admin' is unknown"),
    "a table for the list": (b"[grant]\nrole = 'auditor'\nuser = 'a'", "not a list"),
    "an item that is no table": (b"grant = [1]", "not a table"),
    "unknown role": (b"[[grant]]\nrole = 'root'\nuser = 'a'", "a role is not one of"),
    "no role": (b"[[grant]]\nuser = 'a'", "a role is not one of"),
    "a role that is a list": (b"[[grant]]\nrole = ['auditor']\nuser = 'a'", "a role is not one of"),
    "nobody": (b"[[grant]]\nrole = 'auditor'", "one of user and group"),
    "both": (b"[[grant]]\nrole = 'auditor'\nuser = 'a'\ngroup = 'a'", "one of user and group"),
    "unknown member": (b"[[grant]]\nrole = 'auditor'\nuser = 'a'\nuntil = 1", "nothing else"),
    "empty name": (b"[[grant]]\nrole = 'auditor'\nuser = ''", "name of a user"),
    "a number for a name": (b"[[grant]]\nrole = 'auditor'\nuser = 1000", "name of a user"),
    "a name with a quote": (b"[[grant]]\nrole = 'auditor'\ngroup = 'a\"b'", "name of a group"),
    "a user of no VM": (b"[[grant]]\nrole = 'user'\nuser = 'a'", "VMs are named for the role user"),
    "a user of an empty list": (b"[[grant]]\nrole = 'user'\nuser = 'a'\nvms = []", "1 to"),
    "too many VMs": (
        b"[[grant]]\nrole = 'user'\nuser = 'a'\nvms = [" + b",".join(b"'v%d'" % n for n in range(MAX_VMS + 1)) + b"]",
        "1 to",
    ),
    "a VM that is a path": (b"[[grant]]\nrole = 'user'\nuser = 'a'\nvms = ['../x']", "not the name of a VM"),
    "a VM twice": (b"[[grant]]\nrole = 'user'\nuser = 'a'\nvms = ['a', 'a']", "twice"),
    "VMs of an auditor": (b"[[grant]]\nrole = 'auditor'\nuser = 'a'\nvms = ['a']", "for no other"),
    "a grant twice": (b"[[grant]]\nrole = 'auditor'\nuser = 'a'\n" * 2, "twice"),
    "too many": (
        b"".join(b"[[grant]]\nrole = 'auditor'\nuser = 'a%d'\n" % n for n in range(MAX_GRANTS + 1)),
        "at most",
    ),
    "a key of very many parts": (b"a." * 4_000 + b"a = 1", "more than 100 dots"),
    "too large": (b"#" * 100_001, "more than"),
}

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.@-]{0,20}", fullmatch=True)
vms = st.lists(
    st.from_regex(r"[a-z0-9](\.?[a-z0-9]){0,30}", fullmatch=True) | st.just(EVERY), min_size=1, max_size=12, unique=True
)
grants = st.builds(
    lambda role, kind, name, vms: Grant(role=role, kind=kind, name=name, vms=tuple(vms) if role == USER else ()),
    st.sampled_from(sorted(ROLES)), st.sampled_from(["user", "group"]), names, vms,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "vmgate"
    folder.mkdir(mode=0o755)
    return folder / "roles.toml"


def read(path: Path) -> tuple[Grant, ...]:
    return RoleFile(path, os.getuid()).grants()


def test_grants_are_read_in_their_order() -> None:
    assert parse(GOOD) == GRANTS


def test_a_file_that_is_not_there_grants_nothing(path: Path) -> None:
    assert read(path) == ()
    assert read(path.parent / "no folder either" / "roles.toml") == ()


@pytest.mark.parametrize(("data", "cause"), BAD.values(), ids=BAD)
def test_what_is_wrong_grants_nothing(path: Path, data: bytes, cause: str) -> None:
    path.write_bytes(data)
    with pytest.raises(RolesWrong) as caught:
        read(path)
    assert cause in caught.value.cause


@given(st.lists(grants, max_size=5, unique=True))
def test_what_is_written_is_read_again(some: list[Grant]) -> None:
    assert parse(b"\n".join(map(encode, some))) == tuple(some)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_others_cannot_have_written_it(path: Path, mode: int) -> None:
    path.write_bytes(GOOD)
    path.chmod(mode)
    with pytest.raises(RolesWrong, match="somebody else than root"):
        read(path)


def test_others_cannot_have_put_it_there(path: Path) -> None:
    path.write_bytes(GOOD)
    path.parent.chmod(0o777)
    with pytest.raises(RolesWrong, match="somebody else than root"):
        read(path)


def test_it_belongs_to_root(path: Path) -> None:
    path.write_bytes(GOOD)
    os.chown(path, 1, 1)
    with pytest.raises(RolesWrong, match="somebody else than root"):
        read(path)


def test_it_is_no_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_bytes(GOOD)
    path.symlink_to(tmp_path / "other.toml")
    with pytest.raises(RolesWrong, match="is a link"):
        read(path)


def test_a_grant_is_added_at_the_end_and_the_rest_stays(path: Path) -> None:
    path.write_bytes(GOOD)
    new = Grant(role=AUDITOR, kind="group", name="adm")
    RoleFile(path, os.getuid()).add(new)
    assert path.read_bytes().startswith(GOOD)
    assert read(path) == (*GRANTS, new)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("before", [GOOD, b"grant = []\n", BAD["unknown role"][0]], ids=["twice", "inline", "wrong"])
def test_what_cannot_be_added_leaves_the_file(path: Path, before: bytes) -> None:
    path.write_bytes(before)
    with pytest.raises(RolesWrong):
        RoleFile(path, os.getuid()).add(GRANTS[0])
    assert path.read_bytes() == before


def test_what_is_taken_back_leaves_the_others(path: Path) -> None:
    path.write_bytes(GOOD)
    file = RoleFile(path, os.getuid())
    file.remove(USER, "user", "ann@corp.example")
    assert read(path) == GRANTS[:1]
    with pytest.raises(NotFound):
        file.remove(OPERATOR, "user", "vm-operators")
    assert read(path) == GRANTS[:1]
    file.remove(OPERATOR, "group", "vm-operators")
    assert read(path) == ()


def test_the_first_grant_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "etc/vmgate/roles.toml"
    RoleFile(path, os.getuid()).add(GRANTS[1])
    assert read(path) == (GRANTS[1],)
