# SPDX-License-Identifier: Apache-2.0
"""Describing what hosts boot, out of a signed kernel image, a root, and the certificates that its firmware knows.

``sbverify`` checks the signature, and ``veritysetup`` (cryptsetup, GPL-2.0, a separate program) that the root hash on
the command line is that of the root image. That the tree given is the one in that image is the caller's promise.
This module builds and signs nothing, and looks at no host.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from content.durable import read_file
from content.errors import storage
from content.fsverity import UNIT, digest_leaves, hash_blocks
from documents.errors import DocumentError
from documents.fields import HEX_SHA256
from documents.host_image import IMAGE_PATH, VARIABLES, FirmwareEvents, HostImage, ImageFile
from publisher import programs
from publisher.firmware import SecureBootKeys, expected_variables, read_certificate
from publisher.secure_boot import Announcement, states
from publisher.uki import MAX_UKI, Uki, read_uki, refused

ANY_PHASE: Final = ("", "sysinit", "sysinit:ready")
"""The phases of a running host whose initrd has no systemd."""

DATA_FOLDERS: Final = ("/boot/", "/usr/share/", "/var/")
"""Of these only what can be executed is listed; of all others every file."""

MAX_FILES: Final = 50_000
MAX_PATH: Final = 255
"""Characters of a listed path."""

SECONDS: Final = 1_800
"""A hang guard: a root of 1 GiB takes about ten seconds."""

_WHAT: Final = "the host image was not described"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageParts:
    """What a host image is described from.

    Attributes:
        kernel: the unified kernel image, signed for db.
        root: folder with the tree of which ``root_image`` was made.
        root_image: the file system.
        hash_tree: its dm-verity hash tree, with its superblock.
        keys: PK, KEK and db of the hosts' firmware, as ``firmware.enrol`` writes them.
        phases: see ``HostImage``.
        firmware, firmware_events: see ``HostImage``.
        firmware: see ``HostImage``.
        announced: changes of Secure Boot that its hosts may make, in order.
    """

    kernel: Path
    root: Path
    root_image: Path
    hash_tree: Path
    keys: SecureBootKeys
    phases: tuple[str, ...] = ANY_PHASE
    firmware: tuple[str, ...] = ()
    firmware_events: tuple[FirmwareEvents, ...] = ()
    announced: tuple[Announcement, ...] = ()


def describe(parts: ImageParts) -> HostImage:
    """Describe a host image.

    Raises:
        HostImageWrong: the kernel image is not usable or not signed for db, its command line does not name one root
            hash, a file of the root cannot be listed, or an announced change of Secure Boot would not let it run.
        ProgramFailed: the signature or the root image does not verify, or ``sbverify`` or ``veritysetup`` is missing.
        FirmwareWrong: a certificate is none.
        ContentError: a file cannot be read.
    """
    uki = read_uki(read_file(parts.kernel, MAX_UKI), parts.kernel)
    authority = _authority(parts, uki)
    root_hash = _root_hash(parts, uki)
    variables = {name: data for (name, _), (_, data) in expected_variables(parts.keys).items()}
    image = HostImage(
        boot_application=uki.boot_application,
        sections=uki.sections,
        command_line=uki.command_line.decode("latin-1"),
        phases=parts.phases,
        variables=tuple((name, hashlib.sha256(variables[name]).hexdigest()) for name in VARIABLES),
        authority=hashlib.sha256(authority).hexdigest(),
        root_hash=root_hash,
        firmware=parts.firmware,
        files=list_files(parts.root),
        firmware_events=parts.firmware_events,
        secure_boot=states(variables, authority, parts.announced, uki.signatures),
    )
    try:
        # A host will parse these very bytes: what it would refuse is refused here.
        return HostImage.parse(image.encode())
    except DocumentError as error:
        raise refused(parts.kernel, error.cause) from error


def list_files(root: Path) -> tuple[ImageFile, ...]:
    """List the regular files of a tree that a host could execute, map, load or be set up by; sorted by path.

    Links are not followed. Read on all cores; memory: one ``UNIT`` for each, and one hash for each block of a file.

    Raises:
        HostImageWrong: no file, too many, or a name that cannot be listed.
        ContentError: the tree cannot be read.
    """
    paths: list[str] = []
    for path in _paths(root):
        if len(paths) == MAX_FILES:
            raise refused(root, f"it has more than {MAX_FILES} files to list", "make it smaller")
        paths.append(path)
    if not paths:
        raise refused(root, "it has no file to list", "name the folder of the root's tree")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return tuple(pool.map(lambda path: _measure(root, path), sorted(paths)))


def _authority(parts: ImageParts, uki: Uki) -> bytes:
    """The EFI_SIGNATURE_DATA (UEFI 2.10, 32.4.1) of the certificate that the signature is by."""
    certificate = read_certificate(parts.keys.database)
    # A signature brings its certificate along. This only tells who did not sign it; the program tells who did.
    if certificate not in uki.signatures:
        raise refused(parts.kernel, f"{parts.keys.database} did not sign it", "sign it with the key of db")
    # Those that are announced vouch for the same kernel image.
    announced = (change.authority for change in parts.announced if change.authority is not None)
    for signer in (parts.keys.database, *announced):
        programs.run(["sbverify", "--cert", str(signer.absolute()), str(parts.kernel.absolute())], _WHAT)
    return parts.keys.owner.bytes_le + certificate


def _root_hash(parts: ImageParts, uki: Uki) -> str:
    """The root hash on the command line, which must be that of the root image."""
    # Wherever it stands: systemd also takes one in quotes, and the document refuses what is no word of its own.
    found: list[str] = re.findall(r"roothash=(\S*)", uki.command_line.decode("latin-1"))
    if len(found) != 1:
        cause = f"its command line has {len(found) or 'no'} roothash"
        raise refused(parts.kernel, cause, "build it with the one of the root image")
    (root_hash,) = found
    if not HEX_SHA256.fullmatch(root_hash):
        raise refused(parts.kernel, "its roothash is not 64 hexadecimal characters", "name a SHA-256 root hash")
    command = ["veritysetup", "verify", str(parts.root_image.absolute()), str(parts.hash_tree.absolute()), root_hash]
    programs.run(command, _WHAT, seconds=SECONDS)
    return root_hash


def _paths(root: Path) -> Iterator[str]:
    """Paths below ``root``, as a host will see them."""
    folders = [Path("/")]
    while folders:
        folder = folders.pop()
        with storage("the root was not listed", root), os.scandir(root / folder.relative_to("/")) as entries:
            for entry in entries:
                path = folder / entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False) and _is_listed(str(path), entry):
                    yield _listable(str(path), root)


def _is_listed(path: str, entry: os.DirEntry[str]) -> bool:
    return not path.startswith(DATA_FOLDERS) or bool(entry.stat(follow_symlinks=False).st_mode & 0o111)


def _listable(path: str, root: Path) -> str:
    if len(path) > MAX_PATH or not IMAGE_PATH.fullmatch(path):
        raise refused(root, f"the name {path!a} cannot be listed", "give it another name, or leave it out")
    return path


def _measure(root: Path, path: str) -> ImageFile:
    """Both digests of a file, in one reading."""
    place = root / path.removeprefix("/")
    whole, leaves, length = hashlib.sha256(), bytearray(), 0
    with storage("the file was not measured", place), place.open("rb") as file:
        while part := file.read(UNIT):
            whole.update(part)
            leaves += hash_blocks(part)
            length += len(part)
    return ImageFile(path=path, fsverity=digest_leaves(bytes(leaves), length), sha256=whole.hexdigest())
