# SPDX-License-Identifier: Apache-2.0
"""Making the VMM image: Debian packages in, one read-only file system out, the same bytes whoever makes it and when.

An EROFS file system (``mkfs.erofs`` of erofs-utils, a separate program) with the dm-verity hash tree behind it in the
same file (``veritysetup``): one file and one fs-verity digest, whichever of the two kinds of verity a host uses. The
tree has no salt. No file of the builder's own system comes into it. Other versions of the two programs, or of vmgate,
may make other bytes.

This module signs and publishes nothing and chooses no packages.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from content import durable
from content.errors import storage
from content.fsverity import BLOCK, Measured, digest_file
from publisher import programs
from publisher.closure import LEFT_OUT, Closure, Package, close, package
from publisher.deb import Limits, read_control
from publisher.errors import VmmWrong
from publisher.linking import library_path
from publisher.listing import unusable
from publisher.vmm_programs import LOADER, PROGRAMS, SETTINGS, program_path, scripts, settings
from publisher.vmm_tree import TreeWriter

FIELDS: Final = ("Package", "Version", "Architecture", "Source", "Pre-Depends", "Depends", "Provides")
NAMESPACE: Final = uuid.UUID("0d5b1a3e-1c1c-5d0e-9a50-5a1f6a0a6f20")
"""Of the file systems' UUIDs, which are made from names, versions and digests of the packages (RFC 9562, 5.5)."""

COMPRESSION: Final = ("-zlz4hc", "-C65536")
"""With 64 KiB clusters a VMM of Debian 12 has 73 MB; with 4 KiB it had 82."""

SUPER_BLOCK: Final = 1024
MAGIC: Final = (0xE0F5E1E2).to_bytes(4, "little")
"""Of an EROFS super block, and its place (Linux fs/erofs/erofs_fs.h)."""

SECONDS: Final = 1_800
"""A hang guard: a VMM of Debian 12 takes about ten seconds."""

_WHAT: Final = "the VMM image was not made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A package that the image is made of.

    Attributes:
        package: see there.
        sha256: of the .deb, hexadecimal, as the archive's signed lists have it.
        copyright: its copyright file; empty if it has none.
    """

    package: Package
    sha256: str
    copyright: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VmmImage:
    """What was made.

    Attributes:
        measured: the image, file system and hash tree.
        sha256: the same bytes by ``sha256sum``, for those who do not know fs-verity.
        root_hash: of the hash tree, hexadecimal.
        tree_offset: bytes before the hash tree.
        sources: sorted by name.
        closure: who needs whom.
    """

    measured: Measured
    sha256: str
    root_hash: str
    tree_offset: int
    sources: tuple[Source, ...]
    closure: Closure


def build(
    debs: Sequence[Path], out: Path, left_out: Mapping[str, str] = LEFT_OUT, limits: Limits | None = None
) -> VmmImage:
    """Make the VMM image. The order of ``debs`` does not matter.

    Args:
        debs: Debian packages.
        out: becomes the image.
        left_out: name and reason of what packages need and is left out nevertheless.
        limits: of each package.

    Raises:
        VmmWrong: the set is not whole, or what it makes would not run from itself alone.
        PackageUnusable: a package is damaged, beyond the limits, or given twice.
        ProgramFailed: ``dpkg-deb``, ``tar``, ``mkfs.erofs`` or ``veritysetup`` is missing or failed.
        ContentError: a file cannot be read or written.
    """
    read = _read(debs)
    packages = [one for one, _, _ in read]
    closure = close(packages, left_out)
    with _work_folder(out.absolute().parent) as work:
        tree, image = work / "tree", work / "image"
        durable.make_directory(tree, 0o755)
        command = ["tar", "--extract", "--file=-", "--same-permissions", "--no-same-owner", "--touch"]
        with programs.fed([*command, f"--directory={tree}"], _WHAT) as stream:
            writer = TreeWriter(stream)
            for _, _, path in read:
                writer.add_package(path, limits or Limits())
            _add_programs(writer)
            writer.finish()
        name = "\n".join(f"{one.name} {one.version} {sha256}" for one, sha256, _ in read)
        identity = str(uuid.uuid5(NAMESPACE, name))
        _make_file_system(tree, image, identity)
        offset = digest_file(image).length
        root_hash = _add_hash_tree(image, offset, identity)
        # A copy, since only what `durable` wrote is known to survive a power cut.
        durable.copy_file(image, out.absolute(), 0o644)
        return VmmImage(
            measured=digest_file(image),
            sha256=_sha256(image),
            root_hash=root_hash,
            tree_offset=offset,
            sources=tuple(
                Source(package=one, sha256=sha256, copyright=writer.copyright(one.name)) for one, sha256, _ in read
            ),
            closure=closure,
        )


def require_image(path: Path) -> None:
    """Require that a file begins like a VMM image, so that no release brings another file by mistake.

    Raises:
        VmmWrong: it does not.
        ContentError: it cannot be read.
    """
    with storage("the VMM image was not read", path), path.open("rb") as file:
        head = file.read(SUPER_BLOCK + len(MAGIC))
    if head[SUPER_BLOCK:] != MAGIC:
        raise VmmWrong(
            "the release was not made", cause=f"{path} is no EROFS file system", remedy="use what `repo build-vmm` made"
        )


def _read(debs: Sequence[Path]) -> list[tuple[Package, str, Path]]:
    """Each package with its digest and file, sorted by name."""
    found: dict[str, tuple[Package, str, Path]] = {}
    for path in debs:
        try:
            one = package(read_control(path, *FIELDS))
        except ValueError as error:
            raise unusable(path, str(error)) from error
        if one.name in found:
            raise unusable(path, f"package {one.name} is given twice")
        found[one.name] = (one, _sha256(path), path)
    return [found[name] for name in sorted(found)]


def _add_programs(writer: TreeWriter) -> None:
    """Add the scripts that start the programs, if these will run from the image alone."""
    for path in (LOADER, *map(program_path, PROGRAMS)):
        if not writer.has(path):
            raise VmmWrong(_WHAT, cause=f"no package brings {path}", remedy="add the one that does")
    folders = library_path(writer.linked, writer.paths())
    for path, script in scripts(folders):
        writer.add_bytes(path, script, executable=True)
    writer.add_bytes(SETTINGS, settings())


def _make_file_system(tree: Path, image: Path, identity: str) -> None:
    # No extended attributes, since what the builder's file system has is not the packages'.
    fixed = ["-x-1", "-T0", f"-U{identity}", "--all-root"]
    command = ["mkfs.erofs", "--quiet", *COMPRESSION, *fixed, str(image), str(tree)]
    # mkfs.erofs would prefer the time in that variable to -T.
    programs.run(command, _WHAT, seconds=SECONDS, without=frozenset({"SOURCE_DATE_EPOCH"}))


def _add_hash_tree(image: Path, offset: int, identity: str) -> str:
    """Put the dm-verity hash tree of the first ``offset`` bytes behind them.

    Returns:
        The root hash.
    """
    place = ["--hash=sha256", "--salt=-", f"--uuid={identity}", f"--data-blocks={offset // BLOCK}"]
    blocks = [f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", f"--hash-offset={offset}"]
    command = ["veritysetup", "format", *place, *blocks, str(image), str(image)]
    untrusted_said = programs.run(command, _WHAT, seconds=SECONDS).decode(errors="replace")
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", untrusted_said, re.MULTILINE)
    if found is None:
        raise VmmWrong(_WHAT, cause="veritysetup told no root hash", remedy="use veritysetup 2.6 or newer")
    return found[1]


def _sha256(path: Path) -> str:
    with storage("the file was not measured", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    work = durable.temporary(parent)
    durable.make_directory(work)
    try:
        yield work
    finally:
        durable.remove_tree(work)
