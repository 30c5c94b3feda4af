# SPDX-License-Identifier: Apache-2.0
"""The desk: a recipe in, a published release out. A thin shell around ``plan`` and ``revoke``.

It reads the recipe, what the recipe names, the keys and the repository: nothing of any host. Nothing is published
unless all of it went well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from content import durable
from content.fsverity import Measured, digest_file
from content.store import ContentStore
from documents.release import Release
from documents.tables import LIMIT
from hypervisor.image_file import require_raw_file
from keys.policy_signer import open_policy_signers
from keys.unlock import Secret
from publisher import build, packages
from publisher.definitions import read_definition
from publisher.host_image import describe
from publisher.plan import (
    LIBVIRT_FILES,
    SITE_BASELINE,
    Versioned,
    WorkloadInputs,
    plan_platform,
    plan_workload,
    require_components,
)
from publisher.recipe import PlatformRecipe, WorkloadRecipe, read_recipe
from publisher.revoke import Revocation, choose, plan_platform_revocation, plan_revocation
from publisher.shelf import Shelf
from publisher.vmm import require_image
from updater.repository.ceremony import propose_release
from updater.repository.release import publish

SUPPORTED = 2
"""So many of the newest earlier platform releases can be left by a live switch; hosts with older ones reboot."""


HYPERVISOR = "qemu-system-x86"
"""The package whose version the VMM's files go by."""


def release(
    repository: Path, keys: Path, passphrase: Secret, recipe: Path, *, now: int, request: Path | None = None
) -> Release:
    """Make the next release of a recipe's channel and publish it.

    Args:
        repository: its folder.
        keys: with the key files of the channel's role, snapshot, timestamp, and for a platform of the TPM policy key.
        passphrase: opens them.
        recipe: see ``publisher.recipe``.
        now: seconds since 1970 UTC.
        request: where a request for the channel's signature goes; then nothing is published yet.

    Returns:
        What was published, or is to be.

    Raises:
        PublisherError: the release cannot be made.
        RecipeWrong: the recipe or a file in TOML that it names has a mistake.
        HypervisorError: an image does not begin like a raw one.
        UpdaterError: the repository is damaged or does not take it.
        KeysError: a key does not open.
        ContentError: a file cannot be read or written.
    """
    wanted = read_recipe(recipe)
    shelf = Shelf(repository)
    with _table(repository, shelf) as table:
        if isinstance(wanted, PlatformRecipe):
            planned = _platform(wanted, shelf, table, keys, passphrase)
        else:
            planned = _workload(wanted, shelf, table)
        _publish(repository, keys, passphrase, planned, table.blobs(), now, request)
    return planned


def revoke(
    repository: Path,
    keys: Path,
    passphrase: Secret,
    wanted: Revocation,
    *,
    now: int,
    request: Path | None = None,
) -> Release:
    """Take a release back by a new one; see ``publisher.revoke``. The rest is as in ``release``.

    Raises:
        NothingToRevoke: there is no other release, or the bad one brought nothing of its own.
        NoSuchChannel: the repository does not have it.
        VmgateError: see ``release``.
    """
    shelf = Shelf(repository)
    numbers = shelf.numbers(wanted.channel)
    bad, good = shelf.release(wanted.channel, wanted.number), shelf.release(wanted.channel, choose(numbers, wanted))
    newest = [shelf.release(wanted.channel, number) for number in numbers[:SUPPORTED]]
    if good.authority == "platform":
        signers, image = open_policy_signers(keys, passphrase), shelf.host_image(good)
        planned = plan_platform_revocation(wanted, bad, good, newest, signers, image)
    else:
        planned = plan_revocation(wanted, bad, good, newest)
    _publish(repository, keys, passphrase, planned, (), now, request)
    return planned


def _publish(
    repository: Path,
    keys: Path,
    passphrase: Secret,
    planned: Release,
    blobs: tuple[Path, ...],
    now: int,
    request: Path | None,
) -> None:
    if request is None:
        publish(repository, keys, passphrase, planned.encode(), blobs, now=now)
    else:
        proposed = propose_release(repository, keys, passphrase, planned.encode(), blobs, now=now)
        durable.write_file(request, proposed, 0o644)


class _Table:
    """What a release is being made of. Documents made here lie in a folder that goes away afterwards."""

    def __init__(self, folder: Path, published: ContentStore) -> None:
        self._made = ContentStore(folder)
        self._published = published
        self._blobs: dict[Measured, Path] = {}

    def add_file(self, path: Path) -> Measured:
        """Measure a file; links are followed."""
        whole = path.resolve()
        measured = digest_file(whole)
        self._blobs[measured] = whole
        return measured

    def add_bytes(self, data: bytes) -> Measured:
        """Measure bytes made here."""
        measured = self._made.add_bytes(data)
        self._blobs[measured] = self._made.path(measured.fsverity)
        return measured

    def blobs(self) -> tuple[Path, ...]:
        """The files that the repository does not have yet."""
        return tuple(
            path
            for measured, path in self._blobs.items()
            if not self._published.contains(measured.fsverity, measured.length)
        )


@contextmanager
def _table(repository: Path, shelf: Shelf) -> Iterator[_Table]:
    folder = durable.temporary(repository)
    try:
        yield _Table(folder, shelf.blobs)
    finally:
        durable.remove_tree(folder)


def _platform(recipe: PlatformRecipe, shelf: Shelf, table: _Table, keys: Path, passphrase: Secret) -> Release:
    require_components(recipe.security_policy)
    wheel = build.list_wheel(recipe.wheel)
    own = dict(wheel.packages).get("vmgate", "")
    components = {
        **_vmm(recipe, table),
        "vmm/firmware-vars": table.add_file(recipe.firmware_vars),
        "vmgate/build": _versioned(table.add_bytes(wheel.encode()), own),
        "vmgate/hook": _versioned(table.add_bytes(build.hook_bytes(recipe.wheel)), own),
        "vmgate/security-policy": table.add_bytes(recipe.security_policy.encode()),
    }
    if recipe.libvirt_packages:
        components[LIBVIRT_FILES] = table.add_bytes(packages.list_packages(recipe.libvirt_packages).encode())
    if recipe.site_baseline:
        components[SITE_BASELINE] = table.add_bytes(recipe.site_baseline.encode())
    image = describe(recipe.host_image) if recipe.host_image else None
    if image is not None:
        table.add_bytes(image.encode())
    numbers = shelf.numbers(recipe.terms.channel)
    signer, *older = open_policy_signers(keys, passphrase)
    return plan_platform(
        recipe.terms,
        components,
        next(iter(numbers), 0) + 1,
        [shelf.release(recipe.terms.channel, number) for number in numbers[:SUPPORTED]],
        shelf.identity,
        signer,
        image,
        older,
    )


def _vmm(recipe: PlatformRecipe, table: _Table) -> dict[str, Measured]:
    """The VMM: an image, or the files that packages put on hosts and the firmware beside them."""
    if recipe.vmm_image is not None:
        require_image(recipe.vmm_image)
        return {"vmm/image": table.add_file(recipe.vmm_image)}
    if recipe.firmware_code is None:
        raise ValueError("a recipe has an image or firmware")
    listing = packages.list_packages(recipe.packages)
    version = dict(listing.packages).get(HYPERVISOR, "")
    return {
        "vmm/host-files": _versioned(table.add_bytes(listing.encode()), version),
        "vmm/firmware-code": table.add_file(recipe.firmware_code),
    }


def _versioned(measured: Measured, version: str) -> Versioned:
    return Versioned(fsverity=measured.fsverity, length=measured.length, version=version)


def _workload(recipe: WorkloadRecipe, shelf: Shelf, table: _Table) -> Release:
    images: Mapping[str, Measured] = {
        name: table.add_file(image) if isinstance(image, Path) else shelf.measured(image)
        for name, image in recipe.images
    }
    for name, image in recipe.images:
        # Hosts attach it as raw. What a repository holds by digest came from somewhere as well.
        require_raw_file(image.resolve() if isinstance(image, Path) else shelf.blobs.path(image), f"image {name}")
    definitions = tuple(read_definition(durable.read_file(path, LIMIT), path, images) for path in recipe.definitions)
    for definition in definitions:
        table.add_bytes(definition.encode())
    numbers = shelf.numbers(recipe.terms.channel)
    inputs = WorkloadInputs(
        accepts=recipe.accepts,
        images=tuple(images.items()),
        definitions=definitions,
        policies=tuple(shelf.policies(recipe.accepts)),
    )
    earlier = [shelf.release(recipe.terms.channel, number) for number in numbers[:SUPPORTED]]
    return plan_workload(recipe.terms, inputs, next(iter(numbers), 0) + 1, earlier)
