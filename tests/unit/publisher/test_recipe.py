# SPDX-License-Identifier: Apache-2.0
"""Recipes: relative paths, patterns, and one line for each mistake."""

from __future__ import annotations

import uuid
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from content.errors import Missing
from documents.host_image import FirmwareEvents
from documents.security_policy import SecurityPolicy
from documents.tables import Table
from documents.waves import Wave
from publisher.errors import RecipeWrong
from publisher.firmware import SecureBootKeys
from publisher.host_image import ImageParts
from publisher.recipe import PlatformRecipe, Terms, WorkloadRecipe, read_recipe
from publisher.secure_boot import Announcement
from publisher.waves import STEP, read_waves

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
HOST_IMAGE = f"""\
{PLATFORM}
[host_image]
kernel = "host.efi"
root = "root"
root_image = "root.ext4"
hash_tree = "root.verity"
platform_key = "PK.crt"
exchange_key = "KEK.crt"
signature_database = "db.crt"
owner = "5b4f7e52-8f0a-4f7e-9d3c-6f1f0a3c9b11"
phases = ["", "sysinit:ready"]
firmware = ["{"0a" * 32}"]
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


def test_a_recipe_with_an_image_has_no_second_vmm_beside_it(folder: Path) -> None:
    parts = 'packages = ["debs/*.deb", "debs/b.deb"]\n'
    with pytest.raises(RecipeWrong, match="'vmm_image' holds the whole VMM"):
        read(folder, 'vmm_image = "vmm.img"\n' + PLATFORM)
    with pytest.raises(RecipeWrong, match="'vmm_image' holds the whole VMM"):
        read(folder, 'vmm_image = "vmm.img"\n' + PLATFORM.replace(parts, ""))
    code = next(line for line in PLATFORM.splitlines(keepends=True) if line.startswith("firmware_code"))
    recipe = read(folder, 'vmm_image = "vmm.img"\n' + PLATFORM.replace(parts, "").replace(code, ""))
    assert isinstance(recipe, PlatformRecipe)
    assert (recipe.vmm_image, recipe.packages, recipe.firmware_code) == (folder / "vmm.img", (), None)


def test_a_platform_recipe_may_name_libvirts_packages_and_what_it_asks_of_hosts(folder: Path) -> None:
    asking = 'local = "approved", kernel_required = ["iommu=*"], kernel_denied = ["init=*"], max_vcpus'
    recipe = read(folder, 'libvirt_packages = ["debs/b.deb"]\n' + PLATFORM.replace("max_vcpus", asking))
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.libvirt_packages == (folder / "debs/b.deb",)
    policy = recipe.security_policy
    assert (policy.local, policy.kernel_required, policy.kernel_denied) == ("approved", ("iommu=*",), ("init=*",))
    for wrong in ('local = "any"', 'local = "nobody"', 'kernel_denied = ["a b"]', "kernel_required = []"):
        with pytest.raises(RecipeWrong):
            read(folder, PLATFORM.replace("max_vcpus", f"{wrong}, max_vcpus"))
    with pytest.raises(RecipeWrong):
        read(folder, 'libvirt_packages = ["debs/none.deb"]\n' + PLATFORM)


def test_a_security_policy_may_lie_in_a_file(folder: Path) -> None:
    (folder / "policy.toml").write_text("allow = []\nmax_vcpus = 1\nmax_memory_mib = 64\n")
    whole = PLATFORM[: PLATFORM.index("security_policy")] + 'security_policy = "policy.toml"\n'
    recipe = read(folder, whole)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.security_policy == SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)
    (folder / "policy.toml").unlink()
    with pytest.raises(Missing):
        read(folder, whole)


def test_a_host_image_is_described_by_a_table(folder: Path) -> None:
    recipe = read(folder, HOST_IMAGE)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.host_image == ImageParts(
        kernel=folder / "host.efi",
        root=folder / "root",
        root_image=folder / "root.ext4",
        hash_tree=folder / "root.verity",
        keys=SecureBootKeys(
            platform=folder / "PK.crt",
            exchange=folder / "KEK.crt",
            database=folder / "db.crt",
            owner=uuid.UUID("5b4f7e52-8f0a-4f7e-9d3c-6f1f0a3c9b11"),
        ),
        phases=("", "sysinit:ready"),
        firmware=("0a" * 32,),
    )
    more = '[[host_image.announced]]\ndb = "db-2026.esl"\nauthority = "ca-2026.crt"\n'
    more += '[[host_image.announced]]\ndbx = "dbx.esl"\n'
    recipe = read(folder, HOST_IMAGE + more)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.host_image is not None
    assert recipe.host_image.announced == (
        Announcement(variables={"db": folder / "db-2026.esl"}, authority=folder / "ca-2026.crt"),
        Announcement(variables={"dbx": folder / "dbx.esl"}),
    )
    shorter = HOST_IMAGE[: HOST_IMAGE.index("phases")]
    recipe = read(folder, shorter)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.host_image is not None
    assert recipe.host_image.phases == ("", "sysinit", "sysinit:ready")
    assert recipe.host_image.firmware == ()


def test_a_host_image_may_name_firmware_by_its_events(folder: Path) -> None:
    digests = f'["{"0b" * 32}", "{"0b" * 32}"]'
    events = f'[[host_image.firmware_events]]\nname = "board 1.0"\nsha256 = {digests}\n'
    recipe = read(folder, HOST_IMAGE + events)
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.host_image is not None
    assert recipe.host_image.firmware_events == (FirmwareEvents(name="board 1.0", sha256=("0b" * 32, "0b" * 32)),)
    for wrong in (events.replace(digests, "[]"), events.replace("0b" * 32, "0b"), events.replace("name", "title")):
        with pytest.raises(RecipeWrong):
            read(folder, HOST_IMAGE + wrong)


def test_a_policy_says_what_only_warns_and_for_how_long_a_verdict_counts(folder: Path) -> None:
    recipe = read(folder, PLATFORM.replace("max_vcpus", 'warn_only = ["vmgate/hook"], verdict_seconds = 60, max_vcpus'))
    assert isinstance(recipe, PlatformRecipe)
    assert recipe.security_policy.warn_only == ("vmgate/hook",)
    assert recipe.security_policy.verdict_seconds == 60


def test_a_workload_recipe_keeps_its_order(folder: Path) -> None:
    recipe = read(folder, WORKLOAD.replace("import_days = 30", f'import_days = 30\nrefused = ["{"0a" * 32}"]'))
    assert isinstance(recipe, WorkloadRecipe)
    assert recipe.terms.refused == ("0a" * 32,)
    assert recipe.accepts == (1, 9)
    assert recipe.images == (("demo", folder / "disk.img"), ("other-1", folder / "../other.img"))
    assert recipe.definitions == (folder / "vm.toml",)


def test_waves_are_written_for_people(folder: Path) -> None:
    waves = 'waves = ["90m 0.5%", "4h 1%", "6d 100%"]'
    recipe = read(folder, WORKLOAD.replace("epoch = 1", f"epoch = 1\n{waves}"))
    assert recipe.terms.waves == (
        Wave(after=5_400, share=5),
        Wave(after=14_400, share=10),
        Wave(after=518_400, share=1_000),
    )
    assert not recipe.terms.urgent
    assert read(folder, WORKLOAD.replace("epoch = 1", "epoch = 1\nurgent = true")).terms.urgent


@pytest.mark.parametrize(
    ("text", "old", "new", "line"),
    [
        (PLATFORM, 'authority = "platform"\n', "", "key 'authority' is missing"),
        (PLATFORM, 'authority = "platform"', 'authority = "both"', "line 1: key 'authority'"),
        (PLATFORM, "epoch = 2", "epoch = 0", "line 3: key 'epoch'"),
        (PLATFORM, "epoch = 2", "epoch = 2\nwaves = []", "line 4: key 'waves' is empty"),
        (PLATFORM, "epoch = 2", 'epoch = 2\nwaves = ["1 hour 1%"]', "line 4: key 'waves' has an item"),
        (PLATFORM, "epoch = 2", 'epoch = 2\nwaves = ["1h 1.25%"]', "line 4: key 'waves' has an item"),
        (PLATFORM, "epoch = 2", 'epoch = 2\nurgent = "yes"', "line 4: key 'urgent' is not true or false"),
        (PLATFORM, "0.1.0", "one", "line 4: key 'minimum_agent'"),
        (PLATFORM, "epoch = 2", "epoch = 2\naccepts = [1, 2]", "line 4: key 'accepts' is unknown"),
        (PLATFORM, "*.deb", "*.rpm", "line 6: key 'packages' has 'debs/*.rpm', which matches no file"),
        (PLATFORM, "debs/*.deb", "", "line 6: key 'packages'"),
        (PLATFORM, "max_vcpus = 2", "max_vcpus = 0", "line 10: key 'max_vcpus'"),
        (PLATFORM, "max_vcpus = 2", "vcpus = 2", "line 10: key 'max_vcpus' is missing"),
        (HOST_IMAGE, 'kernel = "host.efi"\n', "", "line 12: key 'kernel' is missing"),
        (HOST_IMAGE, 'hash_tree = "root.verity"\n', "", "key 'hash_tree' is missing"),
        (HOST_IMAGE, 'signature_database = "db.crt"\n', "", "key 'signature_database' is missing"),
        (HOST_IMAGE, "5b4f7e52-", "5b4f7e52", "line 20: key 'owner'"),
        (HOST_IMAGE, '["", "sysinit:ready"]', "[]", "line 21: key 'phases' is empty"),
        (HOST_IMAGE, '"sysinit:ready"', '"Sysinit"', "line 21: key 'phases'"),
        (HOST_IMAGE, '"0a0a', '"a', "line 22: key 'firmware'"),
        (HOST_IMAGE, "firmware = [", "pcr0 = [", "line 22: key 'pcr0' is unknown"),
        (HOST_IMAGE, "[host_image]", "[[host_image]]", "host_image is not a table"),
        (HOST_IMAGE, "max_memory_mib =", 'collect = ["boot_log"], max_memory_mib =', "collects no ima"),
        (HOST_IMAGE, "firmware = [", "announced = [{}]\nfirmware = [", "nothing is announced"),
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


@given(st.text(max_size=12) | st.from_regex(STEP, fullmatch=True))
def test_any_step_is_read_or_refused(text: str) -> None:
    table = Table({"waves": [text]}, PurePath("recipe.toml"), "", (), RecipeWrong)
    try:
        (wave,) = read_waves(table)
    except RecipeWrong:
        assert STEP.fullmatch(text) is None
        return
    assert wave.share <= 9_999
    assert wave.after >= 0
