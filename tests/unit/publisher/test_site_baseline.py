# SPDX-License-Identifier: Apache-2.0
"""Model hosts' checks become the baseline of a release, or a refusal that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from documents.site_baseline import SiteBaseline
from publisher.errors import RecipeWrong
from publisher.recipe import PlatformRecipe, read_recipe
from publisher.site_baseline import join_checks

ONE, TWO = "1" * 64, "2" * 64
RECIPE = """\
authority = "platform"
channel = "platform"
epoch = 1
minimum_agent = "0.1.0"
import_days = 30
packages = []
firmware_code = "code.fd"
firmware_vars = "vars.fd"
wheel = "vmgate.whl"
security_policy = { allow = [], max_vcpus = 1, max_memory_mib = 64 }
"""


def check(**found: str) -> bytes:
    """As `vmgate config check -o json` prints it."""
    things = [
        {"subject": f"host/{name}", "found": digest, "authority": "none", "outcome": "warn", "expected": ""}
        for name, digest in found.items()
    ]
    return json.dumps({"api_version": 1, "things": things, "needed": "approved"}, indent=2).encode()


def test_the_things_of_several_hosts_are_joined() -> None:
    joined = join_checks({"a": check(hooks=TWO, libvirtd=ONE), "b": check(hooks=ONE, libvirtd=ONE)})
    assert joined == SiteBaseline(entries=(("host/hooks", (ONE, TWO)), ("host/libvirtd", (ONE,))))


def test_what_the_release_names_anyway_is_left_out() -> None:
    named = check(libvirtd=ONE).replace(b'"none"', b'"publisher"')
    assert join_checks({"a": named, "b": check(hooks=ONE)}).entries == (("host/hooks", (ONE,)),)
    with pytest.raises(ValueError, match="nothing that the release does not name"):
        join_checks({"a": named})


@pytest.mark.parametrize(
    "wrong",
    [b"", b"[]", b"{}", b'{"things":3}', b'{"things":[3]}', b'{"things":[{"subject":1,"found":2,"authority":3}]}',
     b'{"things":[]}', b"[" * 100_000, check(hooks="x"), check(**{"no subject!": ONE}), check(hooks="unreadable")],
)  # fmt: skip
def test_what_is_no_check_or_no_whole_one_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"file|prints|measured|baseline"):
        join_checks({"a.json": wrong})


def test_a_recipe_names_the_checks_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(check(hooks=ONE))
    path = tmp_path / "recipe.toml"
    path.write_text(f'site_baseline = ["a.json"]\n{RECIPE}')
    recipe = read_recipe(path)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.site_baseline == SiteBaseline(entries=(("host/hooks", (ONE,)),))
    (tmp_path / "a.json").write_bytes(check(hooks="unreadable"))
    with pytest.raises(RecipeWrong) as refused:
        read_recipe(path)
    assert "a.json" in refused.value.cause
    path.write_text(f"site_baseline = []\n{RECIPE}")
    with pytest.raises(RecipeWrong):
        read_recipe(path)
