# SPDX-License-Identifier: Apache-2.0
"""The two ways on which a repository comes to a host, as it lies: nobody looks what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from documents.bundle import BundleEntry, BundleIndex
from lab.hostile import PATIENT, served
from updater.bundle import BundleReader, encode_head
from updater.client.bundle_source import BundleSource
from updater.client.http import HttpSource
from updater.client.source import Source
from updater.formats import BLOBS, METADATA, TARGETS

Carrier = Callable[[Path], AbstractContextManager[Source]]


@contextmanager
def network(repository: Path) -> Iterator[Source]:
    """Its files on a web server."""
    with served(repository) as server:
        yield HttpSource(server.url, PATIENT)


@contextmanager
def bundle(repository: Path) -> Iterator[Source]:
    """Its files in a bundle."""
    path = repository.with_suffix(".bundle")
    pack(repository, path)
    with BundleReader(path) as reader:
        yield BundleSource(reader)


def pack(repository: Path, path: Path) -> None:
    """Put all files of a repository into a bundle, good or not."""
    files = {
        str(file.relative_to(repository)): file.read_bytes()
        for folder in (METADATA, TARGETS, BLOBS)
        for file in (repository / folder).rglob("*")
        if file.is_file()
    }
    entries = []
    offset = 0
    for name, data in sorted(files.items()):
        entries.append(BundleEntry(name=name, offset=offset, length=len(data)))
        offset += len(data)
    with path.open("wb") as out:
        out.write(encode_head(BundleIndex(entries=tuple(entries))))
        for _, data in sorted(files.items()):
            out.write(data)


CARRIERS: dict[str, Carrier] = {"network": network, "bundle": bundle}
