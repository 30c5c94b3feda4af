# SPDX-License-Identifier: Apache-2.0
"""Lets python-tuf fetch metadata from any source, into memory and within its bounds. Targets do not come this way."""

from __future__ import annotations

from collections.abc import Iterator

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface

from updater.client.source import Source, read
from updater.errors import NotOffered

BASE = "source:///"
"""What python-tuf puts before names. It never reaches a network."""


class SourceFetcher(FetcherInterface):
    """See ``tuf.ngclient.FetcherInterface``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The bytes of a file; a missing one as the 404 that ends python-tuf's search for newer roots.

        Raises:
            DownloadHTTPError: the source does not have it.
            UpdaterError: any other failure, and more than ``max_length`` bytes.
        """
        try:
            return read(self._source, url.removeprefix(BASE), max_length)
        except NotOffered as error:
            raise DownloadHTTPError(str(error), 404) from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise DownloadError(f"{url} is not fetched by python-tuf")
