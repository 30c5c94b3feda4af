# SPDX-License-Identifier: Apache-2.0
"""What of a package comes into a VMM image, and in which form."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.deb import Limits
from publisher.errors import PackageUnusable, VmmWrong
from publisher.vmm_tree import TreeWriter

MakeDeb = Callable[..., Path]


def written(*debs: Path) -> dict[str, tarfile.TarInfo]:
    """The tree of packages, by path."""
    stream = io.BytesIO()
    writer = TreeWriter(stream)
    for deb in debs:
        writer.add_package(deb, Limits())
    writer.finish()
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        return {info.name: info for info in archive if not info.isdir()}


def test_what_runs_is_kept_and_nothing_of_who_packed_it(make_deb: MakeDeb) -> None:
    deb = make_deb(
        "qemu",
        {
            "usr/bin/qemu": b"program",
            "lib/x86_64-linux-gnu/libq.so.1": b"library",
            "usr/share/qemu/bios.bin": b"firmware",
            "usr/share/doc/qemu/copyright": b"licence",
            "usr/share/doc/qemu/README": b"for people",
            "usr/share/man/man1/qemu.1": b"for people",
            "usr/share/locale/de/qemu.mo": b"for people",
            "etc/qemu.conf": b"setting",
            "var/lib/qemu/state": b"state",
        },
        links={"usr/bin/kvm": "usr/bin/qemu"},
    )
    found = written(deb)
    assert set(found) == {
        "usr/bin/kvm",
        "usr/bin/qemu",
        "usr/lib/x86_64-linux-gnu/libq.so.1",
        "usr/share/doc/qemu/copyright",
        "usr/share/qemu/bios.bin",
    }
    assert {(info.uid, info.gid, info.mtime) for info in found.values()} == {(0, 0, 0)}
    # One of the two names is the file, and the other is a hard link to it.
    assert {found[name].linkname for name in ("usr/bin/kvm", "usr/bin/qemu")} in (
        {"", "usr/bin/kvm"},
        {"", "usr/bin/qemu"},
    )


def test_set_id_bits_are_not_kept(make_deb: MakeDeb, tmp_path: Path) -> None:
    make_deb("helper", {"usr/bin/helper": b"program", "usr/bin/data": b""})
    (tmp_path / "helper-tree/usr/bin/helper").chmod(0o4711)
    tree, deb = tmp_path / "helper-tree", tmp_path / "helper.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
    found = written(deb)
    assert found["usr/bin/helper"].mode == 0o755
    assert found["usr/bin/data"].mode == 0o644


def test_links_stay_inside_and_those_to_nothing_are_left_out(make_deb: MakeDeb) -> None:
    deb = make_deb(
        "libq",
        {"lib/x86_64-linux-gnu/ld.so": b"loader", "usr/share/doc/libq/copyright": b"licence"},
        symlinks={
            "lib64/ld.so.2": "/lib/x86_64-linux-gnu/ld.so",
            "usr/lib/libq.so": "../../lib/x86_64-linux-gnu/ld.so",
            "usr/lib/over-a-link": "gnu/ld.so",
            "usr/lib/gnu": "x86_64-linux-gnu",
            "usr/lib/ssl/certs": "/etc/ssl/certs",
            "usr/lib/out": "../../../../../../etc/passwd",
            "usr/lib/loop": "loop2",
            "usr/lib/loop2": "loop",
            "usr/share/doc/libq-common": "libq",
        },
    )
    found = {name: info.linkname for name, info in written(deb).items() if info.issym()}
    assert found == {
        "usr/lib64/ld.so.2": "../lib/x86_64-linux-gnu/ld.so",
        "usr/lib/libq.so": "x86_64-linux-gnu/ld.so",
        "usr/lib/over-a-link": "gnu/ld.so",
        "usr/lib/gnu": "x86_64-linux-gnu",
        "usr/share/doc/libq-common": "libq",
    }


def test_a_copyright_file_is_found_over_the_link_to_another_package(make_deb: MakeDeb) -> None:
    writer = TreeWriter(io.BytesIO())
    files = {"usr/share/doc/gcc-base/copyright": b"licence"}
    writer.add_package(make_deb("gcc-base", files, symlinks={"usr/share/doc/libgcc": "gcc-base"}), Limits())
    assert writer.copyright("libgcc") == writer.copyright("gcc-base") == b"licence"
    assert writer.copyright("another") == b""


PLACES = st.sampled_from(["usr/lib/a", "usr/lib/b", "usr/lib/c/a", "usr/lib/c/b", "usr/lib/d/a", "lib/e"])
TARGETS = st.lists(st.sampled_from(["..", ".", "a", "b", "c", "d", "e", "lib", "usr"]), min_size=1, max_size=5).map(
    "/".join
)


@settings(max_examples=40)
@given(
    files=st.sets(PLACES, min_size=1, max_size=3),
    links=st.dictionaries(PLACES, st.tuples(st.sampled_from(["", "/"]), TARGETS).map("".join), max_size=5),
)
def test_any_links_lead_to_something_inside(files: set[str], links: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = folder / "packed"
        (packed / "DEBIAN").mkdir(parents=True)
        (packed / "DEBIAN/control").write_text(
            "Package: any\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
        )
        for path in files | links.keys():
            (packed / path).parent.mkdir(parents=True, exist_ok=True)
            if path in files:
                (packed / path).write_bytes(path.encode())
            else:
                (packed / path).symlink_to(links[path])
        deb, tree = folder / "any.deb", folder / "tree"
        subprocess.run(["dpkg-deb", "-Znone", "-b", packed, deb], check=True, capture_output=True)
        tree.mkdir()
        stream = io.BytesIO()
        writer = TreeWriter(stream)
        writer.add_package(deb, Limits())
        writer.finish()
        subprocess.run(["tar", "-x", "-C", tree], input=stream.getvalue(), check=True)
        found = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}
        assert found == {f"usr/{path}" if path.startswith("lib/") else path for path in files}
        for path in tree.rglob("*"):
            assert path.exists()
            assert path.resolve().is_relative_to(tree)


@pytest.mark.parametrize("path", ["usr/bin/qemu", "usr/bin/qemu/inner"])
def test_a_file_of_two_packages_is_refused(make_deb: MakeDeb, path: str) -> None:
    one, other = make_deb("one", {"usr/bin/qemu": b"1"}), make_deb("other", {path: b"2"})
    for order in ((one, other), (other, one)):
        with pytest.raises(VmmWrong, match="/usr/bin/qemu is brought twice"):
            written(*order)


def test_a_file_behind_the_link_of_another_package_is_refused(make_deb: MakeDeb) -> None:
    one = make_deb("one", {}, symlinks={"usr/lib/place": "/etc"})
    other = make_deb("other", {"usr/lib/place/passwd": b"root"})
    with pytest.raises(VmmWrong, match="/usr/lib/place is brought twice"):
        written(one, other)


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 250])
def test_a_name_without_a_place_is_refused(make_deb: MakeDeb, name: str) -> None:
    with pytest.raises(PackageUnusable, match="has no place in an image"):
        written(make_deb("odd", {f"usr/lib/{name}": b""}))


def test_a_damaged_library_is_refused(make_deb: MakeDeb) -> None:
    with pytest.raises(PackageUnusable, match=r"/usr/lib/liba.so ends within its headers"):
        written(make_deb("liba", {"usr/lib/liba.so": b"\x7fELF\x02\x01"}))


def test_a_package_beyond_the_limits_is_refused(make_deb: MakeDeb) -> None:
    writer = TreeWriter(io.BytesIO())
    with pytest.raises(PackageUnusable, match="more than 1 members"):
        writer.add_package(make_deb("many", {"usr/bin/a": b"", "usr/bin/b": b""}), Limits(members=1))


def test_a_pipe_in_a_package_is_refused(make_deb: MakeDeb, tmp_path: Path) -> None:
    make_deb("piped", {"usr/bin/a": b""})
    tree, deb = tmp_path / "piped-tree", tmp_path / "piped.deb"
    os.mkfifo(tree / "usr/bin/pipe")
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True)
    with pytest.raises(PackageUnusable, match="/usr/bin/pipe is neither file nor link"):
        written(deb)
