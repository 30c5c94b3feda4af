# SPDX-License-Identifier: Apache-2.0
"""A host image that contradicts itself, or would leave something unjudged, is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from documents.canonical import encode
from documents.errors import DocumentError
from documents.host_image import HostImage, ImageFile
from lab.boot_logs import IMAGE

A = "aa" * 32


def refused(why: str, **changes: Any) -> None:
    value = json.loads(IMAGE.encode())
    value.update(changes)
    with pytest.raises(DocumentError, match=why):
        HostImage.parse(encode(value))


def listed(member: str) -> list[Any]:
    found = json.loads(IMAGE.encode())[member]
    assert isinstance(found, list)
    return found


def test_sane() -> None:
    assert HostImage.parse(IMAGE.encode()) == IMAGE


def test_the_command_line_names_the_root_hash_once() -> None:
    named = f"roothash={IMAGE.root_hash}"
    for line in ("quiet", f"{named} {named}", f"{named} roothash={A}", f"roothash={A}", f"x{named}", f"{named}0"):
        refused("does not name the root hash", command_line=line)
    for line in ("", f"{named}\n", f"{named}\0", f"{named} \u00e9"):
        refused("member 'command_line'", command_line=line)


def test_kernel_command_line_and_initrd_are_there() -> None:
    sections = listed("sections")
    for name in (".linux", ".cmdline", ".initrd"):
        refused("lacks the kernel", sections=[entry for entry in sections if entry["name"] != name])
    refused("repeats", sections=[*sections, sections[0]])
    for name in ("linux", ".", ".Linux", ".a.b", ".sixteen_letters_x"):
        refused("member 'name'", sections=[*sections, {"name": name, "sha256": A}])


def test_every_variable_is_named_in_order() -> None:
    variables = listed("variables")
    for wrong in (variables[1:], variables[::-1], [], [*variables[:3], variables[0]]):
        refused("does not name KEK, PK, db and dbx", variables=wrong)
    refused("not one of the known", variables=[{"name": "SecureBoot", "sha256": A}, *variables[1:]])


def test_some_phase_opens_the_keys() -> None:
    refused("no key would ever open", phases=[])
    refused("repeats", phases=["sysinit", "sysinit"])
    for phase in (":", "sysinit:", ":ready", "SYSINIT", "a b", 1, None):
        refused("member 'phases'", phases=[phase])
    assert HostImage.parse(dataclasses.replace(IMAGE, phases=("",)).encode()).phases == ("",)


def test_files_are_sorted_and_distinct() -> None:
    files = listed("files")
    refused("is empty or not sorted", files=[])
    refused("is empty or not sorted", files=files[::-1])
    refused("is empty or not sorted", files=[files[0], files[0]])


@pytest.mark.parametrize("path", ["usr/bin/a", "/", "/usr/../etc/shadow", "/usr/./a", "/usr//a", "/usr/a b", "/a\n"])
def test_paths_are_absolute_and_plain(path: str) -> None:
    refused("member 'path'", files=[{"path": path, "fsverity": A, "sha256": A}])


def test_paths_of_units_and_programs_with_odd_names_are_paths() -> None:
    for path in ("/usr/bin/[", "/usr/lib/systemd/system/system-systemd\\x2dcryptsetup.slice", "/usr/..a"):
        files = (ImageFile(path=path, fsverity=A, sha256=A),)
        assert HostImage.parse(dataclasses.replace(IMAGE, files=files).encode()).files == files


def test_firmware_may_be_unknown_but_not_malformed() -> None:
    assert HostImage.parse(dataclasses.replace(IMAGE, firmware=()).encode()).firmware == ()
    refused("repeats", firmware=[A, A])
    refused("member 'firmware'", firmware=[A.upper()])
