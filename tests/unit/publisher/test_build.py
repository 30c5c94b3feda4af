# SPDX-License-Identifier: Apache-2.0
"""The list made from the wheel is the list that a host makes from vmgate's own folder."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from content.fsverity import digest_file
from documents.host_files import HostFile
from publisher.build import hook_bytes, list_wheel
from publisher.errors import PackageUnusable

MakeWheel = Callable[..., Path]


def test_the_list_is_what_an_installer_puts_into_the_folder(make_wheel: MakeWheel, tmp_path: Path) -> None:
    wheel = make_wheel()
    listing = list_wheel(wheel)
    assert (listing.root, listing.packages) == ("site", (("vmgate", "0.1.0"),))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    found = [
        HostFile(path=f"/{path.relative_to(tmp_path / 'site')}", fsverity=m.fsverity, length=m.length)
        for path in sorted((tmp_path / "site").rglob("*"))
        if path.is_file() and ".dist-info" not in str(path)
        for m in [digest_file(path)]
    ]
    assert list(listing.files) == found
    assert hook_bytes(wheel) == b"hook\n"


def test_metadata_time_and_order_do_not_matter(make_wheel: MakeWheel) -> None:
    files = {"agent/a.py": b"a", "vmgate/b.py": b"b"}
    one = make_wheel(files, file="one.whl")
    two = make_wheel(dict(reversed(files.items())), file="two.whl")
    assert one.read_bytes() != two.read_bytes()
    assert list_wheel(one).encode() == list_wheel(two).encode()


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"stranger/x.py": b""}, "none of vmgate's packages"),
        ({"loose.py": b""}, "none of vmgate's packages"),
        ({"vmgate-0.1.0.data/scripts/x": b""}, "none of vmgate's packages"),
        ({"agent/../keys/x.py": b""}, "cannot be listed"),
        ({"agent/a b.py": b""}, "cannot be listed"),
        ({}, "empty"),
    ],
)
def test_a_wheel_with_something_else_in_it_is_refused(
    make_wheel: MakeWheel, files: dict[str, bytes], cause: str
) -> None:
    with pytest.raises(PackageUnusable, match=cause):
        list_wheel(make_wheel(files))


def test_another_distribution_is_refused(make_wheel: MakeWheel) -> None:
    with pytest.raises(PackageUnusable, match="not vmgate's"):
        list_wheel(make_wheel(name="other"))


def test_a_file_given_twice_is_refused(tmp_path: Path, make_wheel: MakeWheel) -> None:
    wheel = make_wheel()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("vmgate/main.py", b"another")
    with pytest.raises(PackageUnusable, match="twice"):
        list_wheel(wheel)


def test_a_wheel_without_a_hook_has_none(make_wheel: MakeWheel) -> None:
    with pytest.raises(PackageUnusable, match=r"no agent/hook_script\.py"):
        hook_bytes(make_wheel({"agent/__init__.py": b""}))


def test_what_is_too_large_is_refused_before_it_is_unpacked(make_wheel: MakeWheel) -> None:
    with pytest.raises(PackageUnusable, match="too large"):
        list_wheel(make_wheel({"agent/bomb.py": bytes(17 * 1024**2)}))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), length=st.integers(0, 10_000))
def test_a_damaged_wheel_is_refused_or_read_as_it_is(
    make_wheel: MakeWheel, tmp_path: Path, position: int, value: int, length: int
) -> None:
    data = bytearray(make_wheel().read_bytes())
    data[position % len(data)] = value
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(data[: max(1, length)] if length < len(data) else data)
    # Any other exception would be a crash on bad input.
    for read in (list_wheel, hook_bytes):
        with suppress(PackageUnusable):
            read(damaged)


def test_the_wheel_is_only_read(make_wheel: MakeWheel) -> None:
    wheel = make_wheel()
    wheel.chmod(stat.S_IRUSR)
    before = wheel.stat()
    list_wheel(wheel)
    assert wheel.stat().st_mtime_ns == before.st_mtime_ns
