# SPDX-License-Identifier: Apache-2.0
"""What the publisher's commands share: options that open keys, and the passphrase. Signs nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vmgate.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
MAX_PASSPHRASE = 1_000


def keys_options(function: F) -> F:
    """Give a command the options that open the keys."""
    function = click.option("--keys", type=FOLDER, required=True, help="Folder of the encrypted key files.")(function)
    return click.option(
        "--passphrase-file", type=FILE, envvar="VMGATE_PASSPHRASE_FILE", help="Holds the passphrase; else it is asked."
    )(function)


def passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """The passphrase in a file, or as it is typed.

    Raises:
        UsageError: no file and no terminal, or an empty file.
        ContentError: the file cannot be read.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "the keys were not opened",
                cause="there is no terminal to ask for the passphrase",
                remedy="give --passphrase-file",
            )
        typed: str = click.prompt("Passphrase of the keys", hide_input=True, confirmation_prompt=confirm, err=True)
        return typed.encode()
    from content.durable import read_file

    read = read_file(file, MAX_PASSPHRASE).rstrip(b"\n")
    if not read:
        raise UsageError("the keys were not opened", cause=f"{file} is empty", remedy="write the passphrase into it")
    return read


def now() -> int:
    """Seconds since 1970 UTC."""
    return int(time.time())
