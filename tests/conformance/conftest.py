# SPDX-License-Identifier: Apache-2.0
"""The client behind the suite's command line, and a repository with one release."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hostile import served
from lab.publishing import Publisher
from lab.tuf_client import TufClient


@pytest.fixture
def run(tmp_path: Path) -> Iterator[TufClient]:
    (tmp_path / "publisher").mkdir()
    publisher = Publisher(tmp_path / "publisher", now=int(time.time()))
    publisher.publish_platform(1)
    with served(publisher.repository) as server:
        yield TufClient(tmp_path, server, publisher)
