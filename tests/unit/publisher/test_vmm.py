# SPDX-License-Identifier: Apache-2.0
"""The VMM image is the same bytes whoever makes it, and one that is not whole is not made.

These packages are small ones; the real ones are in ``tests/integration/test_vmm_image.py``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from content.fsverity import digest_file
from lab import small_vmm
from lab.command import refused, run
from publisher.copyright import licences
from publisher.errors import PackageUnusable, ProgramFailed, VmmWrong
from publisher.vmm import build
from publisher.vmm_bom import bill_of_materials

MakeDeb = Callable[..., Path]


@pytest.fixture
def debs(make_deb: MakeDeb) -> list[Path]:
    """A whole VMM in two packages."""
    return [
        make_deb("qemu", small_vmm.FILES, version="1:7.2+dfsg-7", control=small_vmm.DEPENDS),
        make_deb("libc6", small_vmm.LOADER, version="2.36-9", symlinks=small_vmm.LOADER_LINK),
    ]


def listed(image: Path) -> str:
    """What fsck.erofs unpacks."""
    tree = image.parent / "unpacked"
    subprocess.run(["fsck.erofs", f"--extract={tree}", image], check=True, capture_output=True)
    return subprocess.run(
        ["find", ".", "-printf", "%P %y %m %U %G %T@ %l\n"], cwd=tree, check=True, capture_output=True, text=True
    ).stdout


def test_the_same_packages_make_the_same_image(
    debs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(debs, tmp_path / "one")
    # Another folder on another file system, another order, another day, other settings of the builder's.
    elsewhere = Path("/dev/shm", tmp_path.parent.name + tmp_path.name)
    elsewhere.mkdir()
    try:
        for name, value in {"SOURCE_DATE_EPOCH": "1000000000", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"}.items():
            monkeypatch.setenv(name, value)
        moved = [Path(shutil.copy(deb, elsewhere)) for deb in reversed(debs)]
        again = build(moved, elsewhere / "another name")
        assert (tmp_path / "one").read_bytes() == (elsewhere / "another name").read_bytes()
        assert again == made
        assert bill_of_materials(again) == bill_of_materials(made)
        assert {path.name for path in elsewhere.iterdir()} == {"another name", "qemu.deb", "libc6.deb"}
    finally:
        shutil.rmtree(elsewhere)


def test_another_version_makes_another_image(debs: list[Path], make_deb: MakeDeb, tmp_path: Path) -> None:
    made = build(debs, tmp_path / "one")
    shutil.rmtree(tmp_path / "qemu-tree")
    newer = make_deb("qemu", small_vmm.FILES, version="1:7.2+dfsg-8", control=small_vmm.DEPENDS)
    assert build([newer, debs[1]], tmp_path / "two").measured != made.measured


def test_the_image_is_what_is_told_of_it(debs: list[Path], tmp_path: Path) -> None:
    image = tmp_path / "image"
    made = build(debs, image)
    assert digest_file(image) == made.measured
    assert hashlib.sha256(image.read_bytes()).hexdigest() == made.sha256
    assert image.stat().st_mode & 0o777 == 0o644
    command = ["veritysetup", "verify", f"--hash-offset={made.tree_offset}", image, image, made.root_hash]
    subprocess.run(command, check=True, capture_output=True)
    # One changed byte anywhere in the file system is another root hash.
    changed = bytearray(image.read_bytes())
    changed[made.tree_offset - 1] ^= 1
    image.write_bytes(changed)
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_the_tree_of_the_image(debs: list[Path], tmp_path: Path) -> None:
    build(debs, tmp_path / "image")
    found = listed(tmp_path / "image").splitlines()
    assert "bin/qemu-img f 755 0 0 0.0000000000 " in found
    assert "usr/bin/qemu-img f 644 0 0 0.0000000000 " in found
    assert "usr/share/doc/qemu/copyright f 644 0 0 0.0000000000 " in found
    loader = "usr/lib64/ld-linux-x86-64.so.2 l 777 0 0 0.0000000000 ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert loader in found
    script = (tmp_path / "unpacked/bin/qemu-system-x86_64").read_text()
    assert '--inhibit-cache --library-path "$root/usr/lib/x86_64-linux-gnu" --argv0 "$0"' in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_an_image_that_would_not_run_is_not_made(debs: list[Path], make_deb: MakeDeb, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"the image of before")
    less = {path: data for path, data in small_vmm.FILES.items() if path != "usr/bin/swtpm"}
    wrong = {
        "qemu needs libc6": [debs[0]],
        "no package brings /usr/bin/swtpm": [make_deb("less", less), debs[1]],
        "no package brings /usr/lib64/ld-linux": [make_deb("more", small_vmm.FILES)],
        "/usr/bin/qemu-img is brought twice": [*debs, make_deb("copy", {"usr/bin/qemu-img": b""})],
    }
    for cause, packages in wrong.items():
        with pytest.raises(VmmWrong, match=cause):
            build(packages, tmp_path / "image")
    with pytest.raises(PackageUnusable, match="libc6 is given twice"):
        build([*debs, debs[1]], tmp_path / "image")
    (tmp_path / "no.deb").write_bytes(b"no package")
    with pytest.raises(ProgramFailed, match="dpkg-deb"):
        build([*debs, tmp_path / "no.deb"], tmp_path / "image")
    # What was there is there, and nothing was left beside it.
    assert (tmp_path / "image").read_bytes() == b"the image of before"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".vmgate-new-")]


def test_without_mkfs_nothing_is_made(debs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("dpkg-deb", "tar", "rm"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ProgramFailed, match=r"mkfs\.erofs"):
        build(debs, tmp_path / "image")
    (programs / "tar").unlink()
    with pytest.raises(ProgramFailed, match="tar"):
        build(debs, tmp_path / "image")
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_an_unpacking_that_fails_makes_nothing(
    make_deb: MakeDeb, debs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """As where the disk is full: before all was read, or after."""
    programs = tmp_path / "programs"
    programs.mkdir()
    # dpkg-deb has its own need of tar.
    (programs / "tar").write_text('#!/bin/sh\ncase "$*" in *--directory*) exit 2 ;; esac\nexec /usr/bin/tar "$@"\n')
    (programs / "tar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin")
    with pytest.raises(ProgramFailed, match="tar: exit 2"):
        build([*debs, make_deb("large", {"usr/lib/large": bytes(size)})], tmp_path / "image")
    assert not (tmp_path / "image").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".vmgate-new-")]


def test_the_bill_of_materials_is_one(debs: list[Path], tmp_path: Path) -> None:
    made = build(debs, tmp_path / "image")
    text = bill_of_materials(made).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert bom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": made.sha256}]
    properties = {entry["name"]: entry["value"] for entry in bom["metadata"]["component"]["properties"]}
    assert properties["vmgate:fsverity"] == made.measured.fsverity
    assert "maintainer scripts" in properties["vmgate:left-out:adduser"]
    libc, qemu = bom["components"]
    assert qemu["purl"] == "pkg:deb/debian/qemu@1:7.2%2Bdfsg-7?arch=all"
    assert PackageURL.from_string(qemu["purl"]).to_string() == qemu["purl"]
    assert qemu["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(debs[0].read_bytes()).hexdigest()}]
    assert [entry["license"].get("id", entry["license"].get("name")) for entry in qemu["licenses"]] == [
        "GPL-2+ and Expat",
        "LGPL-2.1-or-later",
    ]
    assert "licenses" not in libc
    assert bom["dependencies"] == [
        {"ref": "vmgate-vmm", "dependsOn": ["libc6", "qemu"]},
        {"ref": "libc6", "dependsOn": []},
        {"ref": "qemu", "dependsOn": ["libc6"]},
    ]


@given(untrusted=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_any_copyright_file_makes_a_bill_of_materials(untrusted: bytes) -> None:
    opening = small_vmm.COPYRIGHT.partition(b"\n")[0]
    for name in (*licences(untrusted), *licences(opening + b"\nLicense: " + untrusted)):
        assert 1 <= len(name) <= 200
        assert name.isascii()
        assert name.isprintable()


def test_the_command(debs: list[Path], tmp_path: Path) -> None:
    image, bom = tmp_path / "image", tmp_path / "bom.json"
    done = run("repo", "build-vmm", image, "--packages", tmp_path / "*.deb", "--bom", bom, "-o", "json")
    told = json.loads(done.out)
    measured = digest_file(image)
    assert (told["fsverity"], told["length"]) == (measured.fsverity, measured.length)
    assert [(entry["name"], entry["version"]) for entry in told["packages"]] == [
        ("libc6", "2.36-9"),
        ("qemu", "1:7.2+dfsg-7"),
    ]
    assert set(told["left_out"]) == {"adduser"}
    assert json.loads(bom.read_text())["bomFormat"] == "CycloneDX"


def test_the_command_takes_what_the_shell_made_of_a_pattern(debs: list[Path], tmp_path: Path) -> None:
    done = run("repo", "build-vmm", tmp_path / "image", "--packages", *debs)
    assert done.exit == 0
    assert f"2 packages, fsverity {digest_file(tmp_path / 'image').fsverity}" in done.out
    assert "left out: adduser (makes users" in done.out


def test_the_command_leaves_out_only_by_name_and_reason(make_deb: MakeDeb, debs: list[Path], tmp_path: Path) -> None:
    more = make_deb("more", {"usr/bin/more": b""}, control="Depends: libgone\n")
    command = ("repo", "build-vmm", tmp_path / "image", *debs, more)
    assert refused(run(*command), 5).cause == "more needs libgone"
    for option in ("libgone", "libgone=", "=reason"):
        assert "no name with a reason" in refused(run(*command, "--without", option), 2).cause
    assert not (tmp_path / "image").exists()
    done = run(*command, "--without", "libgone=only more wants it", "-o", "json")
    assert json.loads(done.out)["left_out"]["libgone"] == "only more wants it"


def test_the_command_needs_packages(tmp_path: Path) -> None:
    assert refused(run("repo", "build-vmm", tmp_path / "image"), 2).cause == "no packages were named"
    found = refused(run("repo", "build-vmm", tmp_path / "image", "--packages", tmp_path / "*.deb"), 2)
    assert "matches no file" in found.cause
