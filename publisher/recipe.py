# SPDX-License-Identifier: Apache-2.0
"""What goes into a release, as people write it in TOML. Paths are relative to the recipe's own folder.

This module opens only the recipe and the security policy that it names; it does not measure anything.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from content.durable import read_file
from documents.fields import HEX_SHA256, NAME, TEXT, UUID
from documents.host_image import MAX_STATES, PHASES, VARIABLES, FirmwareEvents
from documents.release import AGENT_VERSION, MAX_NUMBER
from documents.security_policy import COLLECTED, SecurityPolicy
from documents.site_baseline import SiteBaseline
from documents.tables import LIMIT, Table, read_table
from documents.waves import Wave
from publisher.definitions import read_policy
from publisher.errors import RecipeWrong
from publisher.firmware import SecureBootKeys
from publisher.host_image import ANY_PHASE, ImageParts
from publisher.patterns import matching
from publisher.secure_boot import Announcement
from publisher.site_baseline import join_checks
from publisher.waves import read_waves

MAX_PATH = 4096
MAX_ITEMS = 1_000
BY_DIGEST = "sha256:"
"""What the fs-verity digest of an image starts with that `vmgate repo add` has put into the repository."""
IMAGE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""The part of an artifact's name after ``image/``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What both kinds of recipe have. The attributes are those of ``Release``."""

    channel: str
    epoch: int
    minimum_agent: str
    import_days: int
    refused: tuple[str, ...]
    waves: tuple[Wave, ...] = ()
    urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRecipe:
    """A platform release: the VMM, vmgate itself and the rules.

    Attributes:
        terms: see there.
        packages: Debian packages, sorted; none where the VMM is an image.
        firmware_code: OVMF code; None where the VMM is an image, which has it.
        firmware_vars: the variables template that ``firmware.enrol`` made.
        wheel: vmgate's wheel.
        security_policy: the rules.
        host_image: what the hosts boot; None where the release does not say.
        libvirt_packages: all packages of libvirt's that its hosts have, sorted; none where the release does not say.
        site_baseline: what is approved of the things local to all hosts; None where the release does not say.
        vmm_image: what ``repo build-vmm`` made; None where the VMM is the files of ``packages``.
    """

    terms: Terms
    packages: tuple[Path, ...]
    firmware_code: Path | None
    firmware_vars: Path
    wheel: Path
    security_policy: SecurityPolicy
    host_image: ImageParts | None = None
    libvirt_packages: tuple[Path, ...] = ()
    site_baseline: SiteBaseline | None = None
    vmm_image: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecipe:
    """A workload release: images and the VMs made of them.

    Attributes:
        terms: see there.
        accepts: lowest and highest number of the platform releases that it runs on.
        images: (name, file, or fs-verity digest of what the repository has already), in the recipe's order.
        definitions: VM definitions in TOML, in the recipe's order.
    """

    terms: Terms
    accepts: tuple[int, int]
    images: tuple[tuple[str, Path | str], ...]
    definitions: tuple[Path, ...]


def read_recipe(path: Path) -> PlatformRecipe | WorkloadRecipe:
    """Read a recipe; its key ``authority`` says which kind it is.

    Raises:
        RecipeWrong: the recipe or the security policy has a mistake, or a pattern matches no package.
        ContentError: one of the two cannot be read.
    """
    table = read_table(read_file(path, LIMIT), path, RecipeWrong)
    authority = table.take_choice("authority", ("platform", "workload"))
    terms = Terms(
        channel=table.take_name("channel"),
        epoch=table.take_int("epoch", 1, MAX_NUMBER),
        minimum_agent=table.take_text("minimum_agent", AGENT_VERSION, 14),
        import_days=table.take_int("import_days", 0, 3660),
        refused=table.take_texts("refused", HEX_SHA256, MAX_ITEMS, 64) if table.has("refused") else (),
        waves=read_waves(table),
        urgent=table.take_bool("urgent") if table.has("urgent") else False,
    )
    recipe = (_read_platform if authority == "platform" else _read_workload)(table, terms, path.parent)
    table.finish()
    return recipe


def _read_platform(table: Table, terms: Terms, folder: Path) -> PlatformRecipe:
    image = _path(table, "vmm_image", folder) if table.has("vmm_image") else None
    if image is not None and (table.has("packages") or table.has("firmware_code")):
        raise table.wrong("vmm_image", "holds the whole VMM: packages and firmware_code have no place beside it")
    recipe = PlatformRecipe(
        terms=terms,
        packages=() if image else _packages(table, "packages", folder),
        firmware_code=None if image else _path(table, "firmware_code", folder),
        firmware_vars=_path(table, "firmware_vars", folder),
        wheel=_path(table, "wheel", folder),
        security_policy=_security_policy(table, folder),
        host_image=_host_image(table.table("host_image"), folder) if table.has("host_image") else None,
        libvirt_packages=_packages(table, "libvirt_packages", folder) if table.has("libvirt_packages") else (),
        site_baseline=_site_baseline(table, folder) if table.has("site_baseline") else None,
        vmm_image=image,
    )
    missing = set(COLLECTED) - recipe.security_policy.collects(host_image=recipe.host_image is not None)
    if recipe.host_image and missing:
        raise table.wrong(
            "security_policy", f"collects no {min(missing)}, so that no verifier could judge the host image"
        )
    return recipe


def _read_workload(table: Table, terms: Terms, folder: Path) -> WorkloadRecipe:
    accepts = table.take_list("accepts", lambda part: part, 2)
    low, high = accepts if len(accepts) == 2 else (None, None)
    if type(low) is not int or type(high) is not int or not 1 <= low <= high <= MAX_NUMBER:
        raise table.wrong("accepts", "is not [lowest, highest] platform release")
    images = table.table("images")
    named: list[tuple[str, Path | str]] = []
    for name in images.names():
        if not IMAGE_NAME.fullmatch(name) or not NAME.fullmatch(name):
            raise images.wrong(name, "is not a name for an image")
        named.append((name, _image(images, name, folder)))
    return WorkloadRecipe(
        terms=terms,
        accepts=(low, high),
        images=tuple(named),
        definitions=tuple(folder / text for text in table.take_texts("definitions", TEXT, MAX_ITEMS, MAX_PATH)),
    )


def _image(table: Table, name: str, folder: Path) -> Path | str:
    text = table.take_text(name, TEXT, MAX_PATH)
    digest = text.removeprefix(BY_DIGEST)
    if digest != text and not HEX_SHA256.fullmatch(digest):
        raise table.wrong(name, f"is not `{BY_DIGEST}` and 64 hexadecimal characters")
    return folder / text if digest == text else digest


def _path(table: Table, name: str, folder: Path) -> Path:
    return folder / table.take_text(name, TEXT, MAX_PATH)


def _packages(table: Table, name: str, folder: Path) -> tuple[Path, ...]:
    """The files that the patterns mean; each pattern must mean one at least."""
    found: set[Path] = set()
    for pattern in table.take_texts(name, TEXT, MAX_ITEMS, MAX_PATH):
        try:
            found |= matching(pattern, folder)
        except ValueError as error:
            raise table.wrong(name, f"has {pattern!r}, {error}") from error
    return tuple(sorted(found))


def _site_baseline(table: Table, folder: Path) -> SiteBaseline:
    """What was found on the site's model hosts, joined."""
    paths = [folder / text for text in table.take_texts("site_baseline", TEXT, MAX_ITEMS, MAX_PATH)]
    try:
        return join_checks({path.name: read_file(path, LIMIT) for path in paths})
    except ValueError as error:
        raise table.wrong("site_baseline", str(error)) from error


def _security_policy(table: Table, folder: Path) -> SecurityPolicy:
    value = table.take("security_policy")
    if not isinstance(value, str):
        return read_policy(table.with_value("security_policy", value).table("security_policy"))
    path = folder / value
    return read_policy(read_table(read_file(path, LIMIT), path, RecipeWrong))


def _firmware_events(table: Table) -> tuple[FirmwareEvents, ...]:
    known = table.tables("firmware_events", 100) if table.has("firmware_events") else ()
    found: list[FirmwareEvents] = []
    for entry in known:
        # One firmware can extend the same twice.
        digests = entry.take_list("sha256", lambda part: part if isinstance(part, str) else "", 100)
        if not digests or not all(HEX_SHA256.fullmatch(digest) for digest in digests):
            raise entry.wrong("sha256", "is empty or has an item that is not in its form")
        found.append(FirmwareEvents(name=entry.take_text("name", limit=60), sha256=digests))
        entry.finish()
    return tuple(found)


def _host_image(table: Table, folder: Path) -> ImageParts:
    parts = ImageParts(
        kernel=_path(table, "kernel", folder),
        root=_path(table, "root", folder),
        root_image=_path(table, "root_image", folder),
        hash_tree=_path(table, "hash_tree", folder),
        keys=SecureBootKeys(
            platform=_path(table, "platform_key", folder),
            exchange=_path(table, "exchange_key", folder),
            database=_path(table, "signature_database", folder),
            owner=uuid.UUID(table.take_text("owner", UUID, 36)),
        ),
        phases=table.take_texts("phases", PHASES, 16) if table.has("phases") else ANY_PHASE,
        firmware=table.take_texts("firmware", HEX_SHA256, 100, 64) if table.has("firmware") else (),
        firmware_events=_firmware_events(table),
        announced=_announced(table, folder) if table.has("announced") else (),
    )
    if not parts.phases:
        raise table.wrong("phases", "is empty, so that no key would ever open")
    table.finish()
    return parts


def _announced(table: Table, folder: Path) -> tuple[Announcement, ...]:
    """Changes of Secure Boot that are to come; each names at least one file."""
    found = []
    for entry in table.tables("announced", MAX_STATES - 1):
        change = Announcement(
            variables={name: _path(entry, name, folder) for name in VARIABLES if entry.has(name)},
            authority=_path(entry, "authority", folder) if entry.has("authority") else None,
        )
        if not change.variables and change.authority is None:
            raise entry.wrong("db", "is missing, and so are KEK, PK, dbx and authority: nothing is announced")
        entry.finish()
        found.append(change)
    return tuple(found)
