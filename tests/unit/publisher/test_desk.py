# SPDX-License-Identifier: Apache-2.0
"""The desk on a real repository: recipes in, verified releases out, and nothing at all when something is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from content.errors import Missing
from content.fsverity import digest_bytes, digest_file
from content.store import ContentStore
from documents.definition import VmDefinition
from documents.errors import VmgateError
from documents.host_files import HostFiles
from documents.host_image import HostImage
from documents.release import Origin, Release
from documents.security_policy import SecurityPolicy
from hypervisor.errors import ImageNotRaw
from keys.errors import PassphraseWrong
from keys.policy_signer import open_policy_signers
from lab.qcow2 import RAW, Written
from measure.local import local_reference
from measure.policy import signed_by, verify_signed_policy
from publisher.custody import new_key
from publisher.desk import release
from publisher.errors import HostImageWrong, PackageUnusable, PlanRefused, RecipeWrong, VmmWrong
from publisher.host_image import ImageParts, describe
from publisher.shelf import Shelf
from updater.errors import NoSuchChannel
from updater.repository.ceremony import merge, read_request, sign_request
from updater.repository.create import create
from updater.repository.errors import RepositoryDamaged, SignersMissing
from updater.repository.release import add_file
from updater.repository.verify import verify_repository

NOW = 1_795_000_000
PASSPHRASE = b"secret"
HEAD = 'minimum_agent = "0.1.0"\nimport_days = 30\n'
PLATFORM = f"""\
authority = "platform"
channel = "platform"
epoch = 1
{HEAD}packages = ["*.deb"]
firmware_code = "code.fd"
firmware_vars = "vars.fd"
wheel = "w.whl"
security_policy = {{ allow = ["AllowSoftwareTpm"], max_vcpus = 2, max_memory_mib = 1024 }}
"""
WORKLOAD = f"""\
authority = "workload"
channel = "workload"
epoch = 1
{HEAD}accepts = [1, 9]
definitions = ["vm.toml"]
[images]
demo = "disk.img"
"""
VM = """\
name = "demo"
uuid = "00000000-0000-4000-8000-000000000001"
title = ""
machine = "pc-q35-7.2"
vcpus = 1
memory_mib = 256
guardians = ["tpm"]
[[disks]]
name = "root"
image = "demo"
class = "readonly"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A repository, its keys, and a folder with two recipes and all that they name."""

    repository: Path
    keys: Path
    folder: Path
    anchor: bytes

    def release(self, recipe: str, passphrase: bytes = PASSPHRASE) -> Release:
        return release(self.repository, self.keys, passphrase, self.folder / recipe, now=NOW)

    def change(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def tree(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in self.repository.rglob("*") if p.is_file() and p.name != ".lock"}

    def blob(self, made: Release, name: str) -> bytes:
        artifact = made.artifact(name)
        assert artifact is not None
        store = ContentStore(self.repository / "blobs")
        store.verify(artifact.fsverity, artifact.length)
        return store.path(artifact.fsverity).read_bytes()


@pytest.fixture
def desk(tmp_path: Path, make_deb: Callable[..., Path], make_wheel: Callable[..., Path]) -> Desk:
    make_deb("qemu-tiny", {"usr/bin/qemu": b"qemu", "usr/lib/libq.so": b"library"})
    make_wheel()
    (tmp_path / "real-code.fd").write_bytes(b"code" * 5000)
    (tmp_path / "code.fd").symlink_to("real-code.fd")
    (tmp_path / "vars.fd").write_bytes(b"vars" * 500)
    (tmp_path / "disk.img").write_bytes(os.urandom(3_000_000))
    for name, text in (("platform.toml", PLATFORM), ("workload.toml", WORKLOAD), ("vm.toml", VM)):
        (tmp_path / name).write_text(text)
    repository, keys = tmp_path / "repository", tmp_path / "keys"
    anchor = create(repository, keys, PASSPHRASE, ("platform", "workload"), now=NOW)
    return Desk(repository=repository, keys=keys, folder=tmp_path, anchor=anchor)


def test_a_platform_release_carries_what_hosts_compare(desk: Desk) -> None:
    made = desk.release("platform.toml")
    assert (made.channel, made.number) == ("platform", 1)
    assert made.reference[0].fsverity == digest_bytes(desk.anchor)
    told = {value.component: value.origin for value in made.reference}
    build = HostFiles.parse(desk.blob(made, "vmgate/build"))
    assert told["vmgate/build"] == Origin(target="releases/platform/1.json", version=dict(build.packages)["vmgate"])
    assert told["vmgate/hook"] == told["vmgate/build"]
    # This VMM has no QEMU, and firmware comes without a version.
    assert {told["vmm/host-files"], told["vmm/firmware-code"]} == {Origin.of("platform", 1)}
    listing = HostFiles.parse(desk.blob(made, "vmm/host-files"))
    assert [entry.path for entry in listing.files] == ["/usr/bin/qemu", "/usr/lib/libq.so"]
    assert HostFiles.parse(desk.blob(made, "vmgate/build")).root == "site"
    assert desk.blob(made, "vmgate/hook") == b"hook\n"
    assert desk.blob(made, "vmm/firmware-code") == b"code" * 5000
    assert SecurityPolicy.parse(desk.blob(made, "vmgate/security-policy")).max_vcpus == 2

    assert made.policy_keys == (open_policy_signers(desk.keys, PASSPHRASE)[0].public(),)
    for policy in made.policies:
        verify_signed_policy(policy, made.policy_keys, "platform")
    assert verify_repository(desk.repository, now=NOW).channels == (
        ("releases-platform", 1),
        ("releases-workload", 0),
    )
    assert Shelf(desk.repository).release("platform", 1) == made


def test_the_same_recipe_measures_the_same_again(desk: Desk) -> None:
    first = desk.release("platform.toml")
    second = desk.release("platform.toml")
    assert second.number == 2
    assert second.artifacts == first.artifacts
    assert second.reference == first.reference


def test_a_release_can_be_entered_from_the_last_two(desk: Desk) -> None:
    made = [desk.release("platform.toml")]
    for count in range(3):
        (desk.folder / "real-code.fd").write_bytes(b"code %d" % count)
        made.append(desk.release("platform.toml"))
    assert [sorted({p.predecessor for p in one.policies}) for one in made] == [[0], [0, 1], [0, 1, 2], [0, 2, 3]]
    assert len({one.policies[0].pcrs for one in made}) == 4


def test_a_raised_epoch_still_opens_what_was_sealed_before(desk: Desk) -> None:
    desk.release("platform.toml")
    desk.change("platform.toml", "epoch = 1", "epoch = 2")
    made = desk.release("platform.toml")
    assert {(p.entry, p.epoch) for p in made.policies} == {(e, n) for e in ("fresh", "switch") for n in (0, 1, 2)}


def test_a_policy_key_is_replaced_over_three_releases(desk: Desk) -> None:
    """Hosts are re-sealed for the new key when the epoch rises; until then only the old one's policies open."""
    first = desk.release("platform.toml")
    new_key("tpm-policy", desk.keys, PASSPHRASE)
    with pytest.raises(PlanRefused, match="only a higher epoch re-seals hosts"):
        desk.release("platform.toml")
    desk.change("platform.toml", "epoch = 1", "epoch = 2")
    old_file = desk.keys / "tpm-policy-1.pem"
    old_file.rename(desk.folder / "old.pem")
    with pytest.raises(PlanRefused, match="the TPM policy key of release 1 is not here"):
        desk.release("platform.toml")
    (desk.folder / "old.pem").rename(old_file)

    new, old = (signer.public() for signer in open_policy_signers(desk.keys, PASSPHRASE))
    assert first.policy_keys == (old,)
    second = desk.release("platform.toml")
    assert second.policy_keys == (new, old)
    # Each way in and each epoch opens by either key.
    ways = [
        {(p.entry, p.predecessor, p.epoch) for p in signed_by(second.policies, key, "platform")} for key in (new, old)
    ]
    assert ways[0] == ways[1] == {(e, n, epoch) for e, n in (("fresh", 0), ("switch", 1)) for epoch in (0, 1, 2)}
    desk.release("platform.toml")
    old_file.unlink()
    assert desk.release("platform.toml").policy_keys == (new,)


def test_a_platform_release_says_what_libvirts_packages_hold(desk: Desk, make_deb: Callable[..., Path]) -> None:
    without = desk.release("platform.toml")
    driver = "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"
    deb = make_deb("libvirt-tiny", {"usr/sbin/libvirtd": b"daemon", driver: b"driver", "etc/libvirt/qemu.conf": b"x"})
    (desk.folder / "libvirt").mkdir()
    deb.rename(desk.folder / "libvirt" / deb.name)
    desk.change("platform.toml", HEAD, f'{HEAD}libvirt_packages = ["libvirt/*.deb"]\n')
    made = desk.release("platform.toml")
    listing = HostFiles.parse(desk.blob(made, "host/libvirt-files"))
    assert [entry.path for entry in listing.files] == [f"/{driver}", "/usr/sbin/libvirtd"]
    assert made.reference == without.reference, "keys open as before"
    assert local_reference(None, listing).keys() == {"host/libvirtd", "host/libvirt-programs"}
    assert verify_repository(desk.repository, now=NOW).releases == 2


def host_image_table(parts: ImageParts) -> str:
    """The part of a recipe that names these."""
    files = {
        "kernel": parts.kernel,
        "root": parts.root,
        "root_image": parts.root_image,
        "hash_tree": parts.hash_tree,
        "platform_key": parts.keys.platform,
        "exchange_key": parts.keys.exchange,
        "signature_database": parts.keys.database,
        "owner": parts.keys.owner,
    }
    return "[host_image]\n" + "".join(f'{key} = "{value}"\n' for key, value in files.items())


def test_a_platform_release_says_what_its_hosts_boot(desk: Desk, image_parts: ImageParts) -> None:
    without = desk.release("platform.toml")
    with (desk.folder / "platform.toml").open("a") as recipe:
        recipe.write(host_image_table(image_parts))
    made = desk.release("platform.toml")
    assert HostImage.parse(desk.blob(made, "host/image")) == describe(image_parts)
    assert made.reference == without.reference
    assert {policy.entry for policy in made.policies} == {"fresh"}
    assert all([index for index, _ in policy.pcrs] == [11, 13] for policy in made.policies)

    again = desk.release("platform.toml")
    assert again.of_kind("host-image") == made.of_kind("host-image")
    assert {policy.predecessor for policy in again.policies} == {0, made.number}

    (image_parts.root / "etc/passwd").write_bytes(b"another root\n")
    changed = desk.release("platform.toml")
    assert changed.of_kind("host-image") != made.of_kind("host-image")
    assert {policy.entry for policy in changed.policies} == {"fresh"}
    assert verify_repository(desk.repository, now=NOW).releases == 4


def test_a_host_image_that_cannot_be_described_publishes_nothing(desk: Desk, image_parts: ImageParts) -> None:
    with (desk.folder / "platform.toml").open("a") as recipe:
        recipe.write(host_image_table(image_parts))
    (image_parts.root / "etc/a b").write_bytes(b"")
    before = desk.tree()
    with pytest.raises(HostImageWrong, match="'/etc/a b' cannot be listed"):
        desk.release("platform.toml")
    assert desk.tree() == before


def test_a_workload_release_brings_images_and_vms(desk: Desk) -> None:
    desk.release("platform.toml")
    made = desk.release("workload.toml")
    definition = VmDefinition.parse(desk.blob(made, "vm/demo"))
    image = digest_file(desk.folder / "disk.img")
    assert (definition.disks[0].image, definition.disks[0].length) == (image.fsverity, image.length)
    assert desk.blob(made, "image/demo") == (desk.folder / "disk.img").read_bytes()

    (desk.folder / "disk.img").write_bytes(b"second")
    again = desk.release("workload.toml")
    assert again.number == 2
    assert VmDefinition.parse(desk.blob(again, "vm/demo")).disks[0].length == 6
    assert verify_repository(desk.repository, now=NOW).releases == 3


def test_a_recipe_may_name_an_image_that_was_added_before(desk: Desk) -> None:
    desk.release("platform.toml")
    added = add_file(desk.repository, desk.folder / "disk.img")
    (desk.folder / "disk.img").unlink()
    desk.change("workload.toml", '"disk.img"', f'"sha256:{added.fsverity}"')
    made = desk.release("workload.toml")
    assert (made.artifacts[0].fsverity, made.artifacts[0].length) == (added.fsverity, 3_000_000)
    for wrong, error in ((f"sha256:{'0' * 64}", Missing), ("sha256:00", RecipeWrong)):
        recipe = (desk.folder / "workload.toml").read_text()
        desk.change("workload.toml", f"sha256:{added.fsverity}", wrong)
        with pytest.raises(error):
            desk.release("workload.toml")
        (desk.folder / "workload.toml").write_text(recipe)


def test_an_image_that_is_no_raw_one_publishes_nothing(desk: Desk) -> None:
    """Nor one that was put into the repository before, and is named by its digest."""
    desk.release("platform.toml")
    disk = desk.folder / "disk.img"
    disk.write_bytes(Written(name=b"/etc/shadow", extensions=(RAW,)).encode().ljust(4096, b"\0"))
    added = add_file(desk.repository, disk)
    before = desk.tree()
    for named in ("disk.img", f"sha256:{added.fsverity}"):
        desk.change("workload.toml", "disk.img", named)
        with pytest.raises(ImageNotRaw) as caught:
            desk.release("workload.toml")
        assert caught.value.found == "qcow2"
        assert "image demo" in caught.value.line()
        assert desk.tree() == before


def test_a_channels_key_may_lie_elsewhere(desk: Desk) -> None:
    (desk.keys / "releases-platform-1.pem").rename(desk.folder / "releases-platform-1.pem")
    before = {name: data for name, data in desk.tree().items() if "/blobs/" not in name}
    with pytest.raises(SignersMissing):
        desk.release("platform.toml")
    request = desk.folder / "request"
    made = release(desk.repository, desk.keys, PASSPHRASE, desk.folder / "platform.toml", now=NOW, request=request)
    assert {name: data for name, data in desk.tree().items() if "/blobs/" not in name} == before
    signed, _ = sign_request(read_request(request.read_bytes()), desk.folder, PASSPHRASE)
    merge(desk.repository, desk.keys, PASSPHRASE, [signed], now=NOW)
    assert Shelf(desk.repository).release("platform", 1) == made


@pytest.mark.parametrize(
    ("recipe", "name", "old", "new", "error"),
    [
        ("platform.toml", "platform.toml", "epoch = 1", "epoch = 0", RecipeWrong),
        ("platform.toml", "platform.toml", 'channel = "platform"', 'channel = "other"', NoSuchChannel),
        ("platform.toml", "platform.toml", '"*.deb"', '"*.whl"', VmgateError),
        ("platform.toml", "platform.toml", '"w.whl"', '"vars.fd"', PackageUnusable),
        ("platform.toml", "platform.toml", '"code.fd"', '"absent.fd"', VmgateError),
        ("workload.toml", "workload.toml", 'channel = "workload"', 'channel = "platform"', PlanRefused),
        ("workload.toml", "vm.toml", "vcpus = 1", "vcpus = 3", PlanRefused),
        ("workload.toml", "vm.toml", 'image = "demo"', 'image = "other"', RecipeWrong),
    ],
)
def test_a_mistake_publishes_nothing(
    desk: Desk, recipe: str, name: str, old: str, new: str, error: type[VmgateError]
) -> None:
    desk.release("platform.toml")
    before = desk.tree()
    desk.change(name, old, new)
    with pytest.raises(error):
        desk.release(recipe)
    assert desk.tree() == before


def test_a_wrong_passphrase_publishes_nothing(desk: Desk) -> None:
    before = desk.tree()
    for recipe in ("platform.toml", "workload.toml"):
        with pytest.raises(PassphraseWrong):
            desk.release(recipe, b"wrong")
    assert desk.tree() == before


def test_a_changed_earlier_release_is_not_built_on(desk: Desk) -> None:
    desk.release("platform.toml")
    for path in (desk.repository / "targets/releases/platform").iterdir():
        if path.name.endswith(".1.json"):
            path.write_bytes(path.read_bytes().replace(b'"epoch":1', b'"epoch":2'))
    before = desk.tree()
    with pytest.raises(RepositoryDamaged):
        desk.release("platform.toml")
    assert desk.tree() == before


def test_a_vmm_that_is_an_image_stands_in_the_place_of_its_files(desk: Desk) -> None:
    first = desk.release("platform.toml")
    image = bytes(1024) + bytes.fromhex("e2e1f5e0") + b"erofs" * 5000
    (desk.folder / "vmm.img").write_bytes(image)
    desk.change("platform.toml", 'packages = ["*.deb"]\nfirmware_code = "code.fd"', 'vmm_image = "vmm.img"')
    made = desk.release("platform.toml")
    assert desk.blob(made, "vmm/image") == image
    assert [value.component for value in made.reference] == [
        "repository",
        "vmm/image",
        "vmm/firmware-vars",
        "vmgate/build",
        "vmgate/hook",
        "vmgate/security-policy",
    ]
    assert made.of_kind("firmware-code") == made.of_kind("host-files") == ()
    # A live switch from the one form to the other is signed as any other is.
    assert {policy.predecessor for policy in made.policies if policy.entry == "switch"} == {first.number}


def test_a_file_that_is_no_image_makes_no_release(desk: Desk) -> None:
    desk.change("platform.toml", 'packages = ["*.deb"]\nfirmware_code = "code.fd"', 'vmm_image = "code.fd"')
    before = desk.tree()
    with pytest.raises(VmmWrong, match="is no EROFS file system"):
        desk.release("platform.toml")
    assert desk.tree() == before
