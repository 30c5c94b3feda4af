# SPDX-License-Identifier: Apache-2.0
"""Relations and versions mean what they mean to dpkg, and a set of packages is whole or is told what it lacks."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.closure import LEFT_OUT, Package, close, package
from publisher.depends import MAX_FIELD, Relation, compare_versions, parse_relations
from publisher.errors import VmmWrong

PARTS = st.text("0129az.+~A", max_size=6)
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}1{upstream}{revision}",
    st.sampled_from(["", "0:", "1:", "12:"]),
    PARTS,
    PARTS.map(lambda text: f"-{text}" if text else ""),
)


def dpkg_order(one: str, other: str) -> int:
    """What dpkg itself says."""
    for order, operator in ((-1, "lt"), (0, "eq"), (1, "gt")):
        if not subprocess.run(["dpkg", "--compare-versions", one, operator, other], check=False).returncode:
            return order
    raise AssertionError(f"dpkg does not compare {one} and {other}")


@settings(max_examples=60)
@given(one=VERSIONS, other=VERSIONS)
def test_versions_compare_as_dpkg_compares_them(one: str, other: str) -> None:
    order = compare_versions(one, other)
    assert (order > 0) - (order < 0) == dpkg_order(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0-1"),
        ("9.1", "10.0"),
        ("1:7.2+dfsg-7", "1:7.2+dfsg-7+deb12u18"),
        ("99", "1:0"),
        ("1.0a", "1.0+"),
        ("1-2-3", "1-2-4"),
    ],
)
def test_the_first_is_earlier(one: str, other: str) -> None:
    assert compare_versions(one, other) < 0 < compare_versions(other, one)
    assert dpkg_order(one, other) == -1


def test_a_field_is_groups_of_alternatives() -> None:
    assert parse_relations("libc6 (>= 2.34), python3:any | perl ,\tzlib1g(=1:1.2)") == (
        (Relation(name="libc6", operator=">=", version="2.34"),),
        (Relation(name="python3"), Relation(name="perl")),
        (Relation(name="zlib1g", operator="=", version="1:1.2"),),
    )
    assert parse_relations(" ") == ()
    assert str(Relation(name="a1", operator="<<", version="2")) == "a1 (<< 2)"


@pytest.mark.parametrize("field", ["a | ", "A1", "a1 (2)", "a1 (> 2)", "a1 (>= 2", "a1 [amd64]", "x" * (MAX_FIELD + 1)])
def test_what_is_no_relation_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="has "):
        parse_relations(field)


@given(untrusted=st.text(max_size=60))
def test_any_field_is_relations_or_refused(untrusted: str) -> None:
    try:
        groups = parse_relations(untrusted)
    except ValueError:
        return
    again = parse_relations(", ".join(" | ".join(map(str, group)) for group in groups))
    assert again == groups


def made(name: str, depends: str = "", *, version: str = "1.0", provides: str = "") -> Package:
    fields = {"Package": name, "Version": version, "Architecture": "amd64", "Depends": depends, "Provides": provides}
    return package(fields)


def test_a_whole_set_tells_who_uses_whom() -> None:
    found = close(
        [
            made("qemu", "libc6 (>= 2.34), rom | bios, adduser"),
            made("libc6", version="2.36-9"),
            made("seabios", provides="bios (= 1.16)"),
        ]
    )
    assert found.uses == (("libc6", ()), ("qemu", ("libc6", "seabios")), ("seabios", ()))
    assert found.left_out == (("adduser", LEFT_OUT["adduser"]),)


@pytest.mark.parametrize(
    ("depends", "others", "cause"),
    [
        ("libc6", [], "qemu needs libc6"),
        ("libc6 (>= 2.34)", [made("libc6", version="2.33")], r"qemu needs libc6 \(>= 2.34\)"),
        ("libx (>= 1)", [made("liby", provides="libx")], r"qemu needs libx \(>= 1\)"),
        ("one1 | two2", [], "qemu needs one1 or two2"),
    ],
)
def test_a_set_that_lacks_something_is_refused(depends: str, others: list[Package], cause: str) -> None:
    with pytest.raises(VmmWrong, match=cause) as refused:
        close([made("qemu", depends), *others])
    assert refused.value.exit == 5
    # Only by name, and with its reason, is it left out.
    left_out = {"libc6": "tested without", "libx": "tested without", "two2": "tested without"}
    assert {reason for _, reason in close([made("qemu", depends), *others], left_out).left_out} == {"tested without"}


def test_a_long_list_of_what_is_missing_is_cut() -> None:
    with pytest.raises(VmmWrong, match="and 20 more"):
        close([made("qemu", ", ".join(f"lib{number}" for number in range(30)))])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"Version": "1", "Architecture": "all"}, "does not tell its package"),
        ({"Package": "a1", "Version": "1", "Architecture": "arm64"}, "is for 'arm64'"),
        ({"Package": "../a", "Version": "1", "Architecture": "all"}, "no relation"),
        ({"Package": "a1", "Version": "1 2", "Architecture": "all"}, "no relation"),
        ({"Package": "a1", "Version": "1", "Architecture": "all", "Depends": "?"}, "no relation"),
    ],
)
def test_control_fields_out_of_form_are_refused(fields: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        package(fields)


def test_the_source_package_is_named() -> None:
    fields = {"Package": "libc6", "Version": "2.36-9", "Architecture": "amd64", "Source": "glibc (2.36)"}
    assert package(fields).source == "glibc"
    assert made("qemu").source == "qemu"
