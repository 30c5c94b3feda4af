# SPDX-License-Identifier: Apache-2.0
"""The packages have plain names (`keys`, `content`), so these tests show that nothing else answers to them."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lab.source import PACKAGES, folder

COMMAND = Path(sysconfig.get_path("scripts")) / "vmgate"
HEAVY = {
    "cryptography",
    "joserfc",
    "libvirt",
    "lxml",
    "requests",
    "rich",
    "securesystemslib",
    "tpm2_pytss",
    "tuf",
    "yaml",
}
# LGPL is used as a library and stays replaceable; GPL would be taken into the product.
FORBIDDEN_LICENCE = re.compile(r"(?<![L])A?GPL|General Public License(?<!Lesser General Public License)", re.IGNORECASE)


def test_packages_come_from_the_environment_and_not_from_a_checkout() -> None:
    environment = Path(sysconfig.get_path("purelib")).resolve()
    elsewhere = {p: str(folder(p)) for p in PACKAGES if folder(p).resolve().parent != environment}
    assert not elsewhere, "run the tests by tox, without PYTHONPATH"


def test_no_other_distribution_has_one_of_our_names() -> None:
    owners = metadata.packages_distributions()
    assert {package: set(owners.get(package, ())) for package in PACKAGES} == {p: {"vmgate"} for p in PACKAGES}


def _vmgate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [COMMAND, *arguments], cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["explain", "KY001"], ["explain", "DC001"]])
def test_a_planted_package_is_not_imported(tmp_path: Path, arguments: list[str]) -> None:
    for name in PACKAGES:
        planted = tmp_path / name / "__init__.py"
        planted.parent.mkdir()
        planted.write_text("raise SystemExit('PLANTED')")
    run = _vmgate(*arguments, cwd=tmp_path)
    assert "PLANTED" not in run.stdout + run.stderr
    assert run.returncode in {0, 3}, run.stderr


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    run = _vmgate("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert run.returncode == 0, run.stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()}
    assert "vmgate" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_no_dependency_is_gpl() -> None:
    licences = {name: _licence(metadata.distribution(name)) for name in _closure("vmgate") - {"vmgate"}}
    assert not {name for name, text in licences.items() if not text}, "says no licence"
    assert not {name: text for name, text in licences.items() if FORBIDDEN_LICENCE.search(text)}


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("GPL-2.0-or-later", True),
        ("GPLv3+", True),
        ("AGPL-3.0-only", True),
        ("GNU General Public License v2", True),
        ("LGPL-v2.0-or-later", False),
        ("GNU Lesser General Public License v2", False),
        ("MIT", False),
    ],
)
def test_the_licence_check_knows_a_gpl(text: str, forbidden: bool) -> None:
    assert bool(FORBIDDEN_LICENCE.search(text)) is forbidden


def _closure(name: str) -> set[str]:
    """The installed distributions that a distribution needs, with its extras as far as they are installed."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        try:
            needs = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue
        if current in found:
            continue
        found.add(current)
        waiting += [Requirement(line).name for line in needs]
    return found


def _licence(distribution: metadata.Distribution) -> str:
    """What its metadata says, in the order of trust: expression, classifiers, free text, the licence's first line."""
    about = distribution.metadata
    classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License :: ")]
    free = (about.get("License") or "").strip().splitlines()
    said = about.get("License-Expression") or "; ".join(classifiers) or (free[0] if free else "")
    return said or "; ".join(_first_line(distribution, name) for name in about.get_all("License-File") or [])


def _first_line(distribution: metadata.Distribution, name: str) -> str:
    found = [text for text in (distribution.read_text(f"licenses/{name}"), distribution.read_text(name)) if text]
    return found[0].strip().splitlines()[0] if found else ""
