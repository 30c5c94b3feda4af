# SPDX-License-Identifier: Apache-2.0
"""``tests/conformance/tuf-client``, started as the public conformance suite starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab.hostile import HostileServer
from lab.publishing import Publisher

CLIENT = Path(__file__).parent.with_name("conformance") / "tuf-client"


class TufClient:
    """Its folders, and the server that it asks. Each call is a process of its own and returns the exit code.

    Attributes:
        metadata: where it keeps metadata.
        targets: where it puts what it downloads.
        server: tests may exchange it.
        publisher: whose first root it trusts.
    """

    def __init__(self, folder: Path, server: HostileServer, publisher: Publisher) -> None:
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.server, self.publisher = server, publisher
        self.root = folder / "root.json"
        self.root.write_bytes(publisher.anchor)

    def __call__(self, *arguments: str) -> int:
        return self.bare("--metadata-dir", str(self.metadata), *arguments)

    def bare(self, *arguments: str) -> int:
        """Without the option that every call has."""
        return subprocess.run([sys.executable, str(CLIENT), *arguments], check=False, timeout=60).returncode

    def init(self) -> int:
        return self("init", str(self.root))

    def refresh(self) -> int:
        return self("--metadata-url", f"{self.server.url}metadata/", "refresh")

    def download(self, *names: str) -> int:
        wanted = [argument for name in names for argument in ("--target-name", name)]
        return self(
            "--metadata-url", f"{self.server.url}metadata/", *wanted,
            "--target-dir", str(self.targets), "--target-base-url", f"{self.server.url}targets/", "download",
        )  # fmt: skip

    def asked(self) -> list[str]:
        """Names of the files that were asked for."""
        return [name for name, _ in self.server.requests]

    def downloaded(self) -> set[bytes]:
        """What lies in the folder of targets."""
        return {path.read_bytes() for path in self.targets.rglob("*") if path.is_file()}
