# SPDX-License-Identifier: Apache-2.0
"""``vmgate image``: digests of files."""

from __future__ import annotations

from pathlib import Path

import click

from vmgate.output import output_option, show


@click.group("image")
def command() -> None:
    """Digests of files and the content store."""


@command.command("digest")
@click.argument("path", type=click.Path(path_type=Path))
@output_option
def digest(path: Path, output: str) -> None:
    """Print the fs-verity digest of a file, as `fsverity digest` does."""
    from content.fsverity import digest_file

    measured = digest_file(path, allow_link=True)
    text = f"sha256:{measured.fsverity}"
    show(output, {"fsverity": measured.fsverity, "length": measured.length}, lambda: click.echo(text))
