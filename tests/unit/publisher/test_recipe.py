# SPDX-License-Identifier: Apache-2.0
"""Recipes: relative paths, patterns, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from content.errors import Missing
from documents.security_policy import SecurityPolicy
from publisher.errors import RecipeWrong
from publisher.recipe import PlatformRecipe, Terms, WorkloadRecipe, read_recipe

PLATFORM = """\
authority = "platform"
channel = "platform"
epoch = 2
minimum_agent = "0.1.0"
import_days = 30
packages = ["debs/*.deb", "debs/b.deb"]
firmware_code = "fw/code.fd"
firmware_vars = "/abs/vars.fd"
wheel = "vmgate.whl"
security_policy = { allow = ["AllowSoftwareTpm"], max_vcpus = 2, max_memory_mib = 1024 }
"""
WORKLOAD = """\
authority = "workload"
channel = "workload"
epoch = 1
minimum_agent = "0.1.0"
import_days = 30
accepts = [1, 9]
definitions = ["vm.toml"]
[images]
demo = "disk.img"
other-1 = "../other.img"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "debs").mkdir()
    for name in "ab":
        (tmp_path / f"debs/{name}.deb").touch()
    return tmp_path


def read(folder: Path, text: str) -> PlatformRecipe | WorkloadRecipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return read_recipe(path)


def test_a_platform_recipe_names_files_beside_it(folder: Path) -> None:
    policy = SecurityPolicy(allow=("AllowSoftwareTpm",), max_vcpus=2, max_memory_mib=1024)
    assert read(folder, PLATFORM) == PlatformRecipe(
        terms=Terms(channel="platform", epoch=2, minimum_agent="0.1.0", import_days=30, refused=()),
        packages=(folder / "debs/a.deb", folder / "debs/b.deb"),
        firmware_code=folder / "fw/code.fd",
        firmware_vars=Path("/abs/vars.fd"),
        wheel=folder / "vmgate.whl",
        security_policy=policy,
    )


def test_a_security_policy_may_lie_in_a_file(folder: Path) -> None:
    (folder / "policy.toml").write_text("allow = []\nmax_vcpus = 1\nmax_memory_mib = 64\n")
    whole = PLATFORM[: PLATFORM.index("security_policy")] + 'security_policy = "policy.toml"\n'
    recipe = read(folder, whole)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.security_policy == SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)
    (folder / "policy.toml").unlink()
    with pytest.raises(Missing):
        read(folder, whole)


def test_a_workload_recipe_keeps_its_order(folder: Path) -> None:
    recipe = read(folder, WORKLOAD.replace("import_days = 30", f'import_days = 30\nrefused = ["{"0a" * 32}"]'))
    assert isinstance(recipe, WorkloadRecipe)
    assert recipe.terms.refused == ("0a" * 32,)
    assert recipe.accepts == (1, 9)
    assert recipe.images == (("demo", folder / "disk.img"), ("other-1", folder / "../other.img"))
    assert recipe.definitions == (folder / "vm.toml",)


@pytest.mark.parametrize(
    ("text", "old", "new", "line"),
    [
        (PLATFORM, 'authority = "platform"\n', "", "key 'authority' is missing"),
        (PLATFORM, 'authority = "platform"', 'authority = "both"', "line 1: key 'authority'"),
        (PLATFORM, "epoch = 2", "epoch = 0", "line 3: key 'epoch'"),
        (PLATFORM, "0.1.0", "one", "line 4: key 'minimum_agent'"),
        (PLATFORM, "epoch = 2", "epoch = 2\naccepts = [1, 2]", "line 4: key 'accepts' is unknown"),
        (PLATFORM, "*.deb", "*.rpm", "line 6: key 'packages' has 'debs/*.rpm', which matches no file"),
        (PLATFORM, "debs/*.deb", "", "line 6: key 'packages'"),
        (PLATFORM, "max_vcpus = 2", "max_vcpus = 0", "line 10: key 'max_vcpus'"),
        (PLATFORM, "max_vcpus = 2", "vcpus = 2", "line 10: key 'max_vcpus' is missing"),
        (WORKLOAD, "[1, 9]", "[9, 1]", "line 6: key 'accepts'"),
        (WORKLOAD, "[1, 9]", "[1, 9, 10]", "line 6: key 'accepts'"),
        (WORKLOAD, "[1, 9]", "[true, 9]", "line 6: key 'accepts'"),
        (WORKLOAD, "demo =", "Demo =", "line 9: key 'Demo'"),
        (WORKLOAD, '"disk.img"', "7", "line 9: key 'demo' is not a text"),
        (WORKLOAD, "[images]", "[image]", "key 'images' is missing"),
        (WORKLOAD, '["vm.toml"]', '"vm.toml"', "line 7: key 'definitions' is not a list"),
    ],
)
def test_a_mistake_is_named_with_its_line(folder: Path, text: str, old: str, new: str, line: str) -> None:
    with pytest.raises(RecipeWrong) as caught:
        read(folder, text.replace(old, new, 1))
    assert line in caught.value.line()
