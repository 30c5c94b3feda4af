# SPDX-License-Identifier: Apache-2.0
"""The options by which the publisher's commands come by keys. Signs nothing."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from vmgate.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
MAX_PASSPHRASE = 1_000


def keys_options(*, confirm: bool = False) -> Callable[[F], F]:
    """Give a command the options that open the keys; it gets ``keys`` and ``secret``.

    Args:
        confirm: a passphrase that is typed is typed twice, because it encrypts new keys.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_keys(*, passphrase_file: Path | None, **others: Any) -> Any:
            return function(secret=_passphrase(passphrase_file, confirm=confirm), **others)

        command: Any = click.option(
            "--passphrase-file",
            type=FILE,
            envvar="VMGATE_PASSPHRASE_FILE",
            help="Holds the passphrase; else it is asked.",
        )(with_keys)
        with_folder = click.option("--keys", type=FOLDER, required=True, help="Folder of the encrypted key files.")
        return cast("F", with_folder(command))

    return decorate


def _passphrase(file: Path | None, *, confirm: bool) -> bytes:
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

    passphrase = read_file(file, MAX_PASSPHRASE).rstrip(b"\n")
    if not passphrase:
        raise UsageError("the keys were not opened", cause=f"{file} is empty", remedy="write the passphrase into it")
    return passphrase
