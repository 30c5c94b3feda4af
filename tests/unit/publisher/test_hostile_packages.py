# SPDX-License-Identifier: Apache-2.0
"""Packages that no `dpkg-deb -b` would make: each is refused, or listed as what it is, and nothing crashes."""

from __future__ import annotations

import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from content.fsverity import digest_bytes
from publisher.errors import PackageUnusable, PublisherError
from publisher.packages import list_packages

BLOCK = 512


def member(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data)
    padding = bytes(-len(data) % BLOCK)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + data + padding


def write_deb(path: Path, archive: bytes) -> Path:
    """A package (deb(5)) whose files are this tar archive."""
    control = b"Package: hostile\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
    parts = (
        ("debian-binary", b"2.0\n"),
        ("control.tar", member("./control", control) + bytes(2 * BLOCK)),
        ("data.tar", archive),
    )
    whole = b"!<arch>\n"
    for name, data in parts:
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        whole += data + b"\n" * (len(data) % 2)
    path.write_bytes(whole)
    return path


END = bytes(2 * BLOCK)
GOOD = member("./usr/bin/good", b"good")


def test_the_packages_of_this_file_are_real(tmp_path: Path) -> None:
    listing = list_packages([write_deb(tmp_path / "x.deb", GOOD + END)])
    assert [(entry.path, entry.fsverity) for entry in listing.files] == [("/usr/bin/good", digest_bytes(b"good"))]


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (member("./usr/bin/../../etc/x", b"x"), "cannot be listed"),
        (member("./usr/bin/./x", b"x"), "cannot be listed"),
        (member("./usr/bin//x", b"x"), "cannot be listed"),
        (member("./usr/bin/x\n", b"x"), "cannot be listed"),
        (member("./usr/bin/\udcff", b"x"), "cannot be listed"),
        (member("./usr/bin/x", kind=tarfile.LNKTYPE, link="./usr/bin/nobody"), "hard link to nothing"),
        (GOOD, "brought twice"),
        (member("/usr/bin/good", b"other"), "brought twice"),
        (member("./bin/good", b"other"), "brought twice"),
        (member("./usr/bin/x", bytes(5000))[:-2048], "damaged|ends within"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(tmp_path: Path, bad: bytes, cause: str) -> None:
    archive = GOOD + bad + (b"" if "ends" in cause else END)
    with pytest.raises(PackageUnusable, match=cause) as caught:
        list_packages([write_deb(tmp_path / "x.deb", archive)])
    assert caught.value.line().isprintable()


def test_what_is_no_regular_file_is_not_listed(tmp_path: Path) -> None:
    kinds = (tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
    others = b"".join(member(f"./usr/bin/{n}", kind=kind, link="good") for n, kind in enumerate(kinds))
    listing = list_packages([write_deb(tmp_path / "x.deb", others + GOOD + END)])
    assert [entry.path for entry in listing.files] == ["/usr/bin/good"]


def test_a_size_below_zero_is_refused(tmp_path: Path) -> None:
    header = bytearray(member("./usr/bin/x"))
    header[124:136] = b"\xff" * 12  # GNU's base-256 form of -1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:BLOCK]))
    with pytest.raises(PackageUnusable):
        list_packages([write_deb(tmp_path / "x.deb", GOOD + bytes(header) + END)])


ARCHIVE = GOOD + member("./usr/lib/" + "x" * 150, b"long") + member("./usr/bin/h", kind=tarfile.LNKTYPE, link="x") + END


@settings(max_examples=60)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 2 * len(ARCHIVE)),
)
def test_any_archive_is_listed_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    archive = bytearray(ARCHIVE)
    for position, value in changes:
        archive[position] = value
    for start in range(0, len(archive), BLOCK):  # Right checksums lead further into the parser.
        header = archive[start : start + BLOCK]
        if header[257:262] == b"ustar":
            total = sum(header[:148]) + 8 * 32 + sum(header[156:])
            archive[start + 148 : start + 156] = b"%06o\0 " % total
    with tempfile.TemporaryDirectory() as name:
        deb = write_deb(Path(name) / "x.deb", bytes(archive[:length]))
        with suppress(PublisherError):
            assert list_packages([deb]).files
