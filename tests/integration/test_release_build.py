# SPDX-License-Identifier: Apache-2.0
"""The wheel is the same bytes twice, whatever differs around it, and again from its source archive."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lab.releasing import REPORT, ROOT, SOURCES, load_release, verified, write_public

load_release()

from release import building  # noqa: E402
from release.building import NotReproducible, build_twice  # noqa: E402
from release.folder import describe, seal, sha256  # noqa: E402
from release.provenance import Built  # noqa: E402
from release.resolved import read  # noqa: E402


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as git would give it: no caches, no leftovers."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=ignored)
        else:
            shutil.copy(path, folder / name)
    return folder


def test_a_wheel_is_built_twice_signed_and_rebuilt_from_its_source(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    built = build_twice(source, tmp_path, out)
    assert sorted(path.suffix for path in built) == [".gz", ".whl"]
    wheel = next(path for path in built if path.suffix == ".whl")
    report = {**REPORT, "install": [{**REPORT["install"][0]}]}  # type: ignore[index]
    report["install"][0]["download_info"] = {  # type: ignore[index]
        "url": wheel.as_uri(), "archive_info": {"hashes": {"sha256": sha256(wheel)}}
    }  # fmt: skip
    key = ec.generate_private_key(ec.SECP384R1())
    subjects = {path.name: sha256(path) for path in built}
    describe(out, read(report), "0.1.0", 1_800_000_000)
    seal(out, "0.1.0", Built(subjects=subjects, commit="c" * 40, tools={}, source_time=""), key)
    public = write_public(key, tmp_path / "release.pub")
    done = verified(out, public, "--rebuild")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("and its source archive makes this very wheel\n")


def test_what_depends_on_where_it_was_built_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    build = building._build

    def careless(source: Path, work: Path, place: building.Place, targets: tuple[str, ...]) -> Path:
        (copy / "vmgate/where.py").write_text(f"BUILT_AT = {os.fspath(work / place.folder)!r}\n")
        return build(copy, work, place, targets)

    monkeypatch.setattr(building, "_build", careless)
    with pytest.raises(NotReproducible, match=r"vmgate-.*\.whl is not the same bytes twice"):
        build_twice(source, tmp_path, tmp_path / "dist", ("wheel",))
    assert not (tmp_path / "dist").exists()
