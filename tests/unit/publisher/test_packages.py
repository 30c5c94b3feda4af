# SPDX-License-Identifier: Apache-2.0
"""The list made from packages is the list that a host makes from what they install."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from content.fsverity import digest_bytes, digest_file
from documents.host_files import HostFile, HostFiles
from publisher.errors import PackageUnusable, ProgramFailed
from publisher.packages import PREFIXES, Limits, list_packages

MakeDeb = Callable[..., Path]


def installed(deb: Path, folder: Path) -> tuple[HostFile, ...]:
    """What a host with merged /usr finds after the package's files were put there."""
    for name in ("bin", "sbin", "lib"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", folder], input=archive, check=True)
    found = []
    for path in folder.rglob("*"):
        name = f"/{path.relative_to(folder)}"
        if path.is_file() and not path.is_symlink() and name.startswith(PREFIXES):
            measured = digest_file(path)
            found.append(HostFile(path=name, fsverity=measured.fsverity, length=measured.length))
    return tuple(sorted(found, key=lambda entry: entry.path))


def test_a_list_names_what_runs_and_nothing_else(make_deb: MakeDeb, tmp_path: Path) -> None:
    deb = make_deb(
        "qemu-tiny",
        {
            "usr/bin/qemu": b"\x7fELF" + bytes(9000),
            "lib/x86_64-linux-gnu/libq.so.1": b"library",
            "usr/share/qemu/empty.bin": b"",
            "usr/share/doc/qemu-tiny/copyright": b"text",
            "etc/qemu.conf": b"setting",
        },
        version="1:7.2+dfsg-7~deb12u1",
        links={"usr/bin/qemu-alias": "usr/bin/qemu"},
        symlinks={"usr/lib/libq.so": "x86_64-linux-gnu/libq.so.1"},
    )
    listing = list_packages([deb])
    assert listing.root == "host"
    assert listing.packages == (("qemu-tiny", "1:7.2+dfsg-7~deb12u1"),)
    assert [entry.path for entry in listing.files] == [
        "/usr/bin/qemu",
        "/usr/bin/qemu-alias",
        "/usr/lib/x86_64-linux-gnu/libq.so.1",
        "/usr/share/qemu/empty.bin",
    ]
    assert listing.files[2].fsverity == digest_bytes(b"library")
    assert listing.files == installed(deb, tmp_path / "host")
    assert HostFiles.parse(listing.encode()) == listing


FOLDERS = st.sampled_from(
    ["bin", "sbin", "lib/m", "usr/bin", "usr/lib/m", "usr/libexec", "usr/share/qemu", "etc", "var"]
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9@%+=:,._~-]{0,20}", fullmatch=True)
TREES = st.dictionaries(
    st.tuples(FOLDERS, NAMES).map("/".join), st.binary(max_size=9000), min_size=1, max_size=8
).filter(lambda tree: len({path.removeprefix("usr/") for path in tree}) == len(tree))


@settings(max_examples=20)
@given(tree=TREES)
def test_packages_and_a_host_agree(tree: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = folder / "build"
        (build / "DEBIAN").mkdir(parents=True)
        (build / "DEBIAN/control").write_text(
            "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
        )
        for path, content in {"usr/bin/always": b"x", **tree}.items():
            (build / path).parent.mkdir(parents=True, exist_ok=True)
            (build / path).write_bytes(content)
        deb = folder / "p.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", build, deb]
        subprocess.run(command, check=True, capture_output=True)
        assert list_packages([deb]).files == installed(deb, folder / "host")


def test_the_order_of_packages_does_not_matter(make_deb: MakeDeb) -> None:
    debs = [make_deb(name, {f"usr/bin/{name}": name.encode()}) for name in ("one", "two", "three")]
    assert list_packages(debs).encode() == list_packages(debs[::-1]).encode()


def test_a_changed_byte_changes_the_list(make_deb: MakeDeb, tmp_path: Path) -> None:
    first = list_packages([make_deb("one", {"usr/bin/x": bytes(5000)})])
    (tmp_path / "one-tree/usr/bin/x").write_bytes(bytes(4999) + b"\1")
    subprocess.run(["dpkg-deb", "-b", tmp_path / "one-tree", tmp_path / "b.deb"], check=True, capture_output=True)
    second = list_packages([tmp_path / "b.deb"])
    assert first.files[0].length == second.files[0].length
    assert first.files[0].fsverity != second.files[0].fsverity


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("usr/bin/with space", "cannot be listed"),
        ("usr/lib/" + "/".join(["x" * 60] * 5), "cannot be listed"),
        ("usr/share/doc/only", "empty"),
    ],
)
def test_what_no_host_could_compare_is_refused(make_deb: MakeDeb, path: str, cause: str) -> None:
    with pytest.raises(PackageUnusable, match=cause):
        list_packages([make_deb("odd", {path: b"x"})])


def test_a_file_of_two_packages_is_refused(make_deb: MakeDeb) -> None:
    debs = [make_deb("one", {"lib/x": b"x"}), make_deb("two", {"usr/lib/x": b"x"})]
    with pytest.raises(PackageUnusable, match="/usr/lib/x is brought twice"):
        list_packages(debs)


def test_a_package_given_twice_is_refused(make_deb: MakeDeb) -> None:
    deb = make_deb("one", {"usr/bin/x": b"x"})
    with pytest.raises(PackageUnusable, match="given twice"):
        list_packages([deb, deb])


def test_no_package_is_refused() -> None:
    with pytest.raises(PackageUnusable, match="empty"):
        list_packages([])


def test_what_is_too_large_is_refused(make_deb: MakeDeb) -> None:
    deb = make_deb("big", {"usr/bin/x": bytes(100_000), "usr/bin/y": b""})
    with pytest.raises(PackageUnusable, match="too large"):
        list_packages([deb], Limits(unpacked=50_000))
    with pytest.raises(PackageUnusable, match="more than 2 members"):
        list_packages([deb], Limits(members=2))


def test_a_damaged_package_is_refused(make_deb: MakeDeb, tmp_path: Path) -> None:
    deb = make_deb("one", {"usr/bin/x": bytes(100_000)})
    whole = deb.read_bytes()
    for length in (0, 10, 100, 5_000, len(whole) - 40_000):
        (tmp_path / "cut.deb").write_bytes(whole[:length])
        with pytest.raises((PackageUnusable, ProgramFailed)) as caught:
            list_packages([tmp_path / "cut.deb"])
        assert caught.value.line().startswith("error[PB00")


def test_a_missing_program_is_named(make_deb: MakeDeb, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = make_deb("one", {"usr/bin/x": b"x"})
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramFailed, match="install dpkg-deb"):
        list_packages([deb])
