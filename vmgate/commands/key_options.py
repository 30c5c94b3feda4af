# SPDX-License-Identifier: Apache-2.0
"""The options by which the publisher's commands come by keys. Secrets are asked for only when a key needs one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keys.unlock import Unlock
from vmgate.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MAX_SECRET = 1_000

request_option = click.option(
    "--request", type=NEW_FILE, help="Publish nothing: write a request for the signatures that others must give."
)


def keys_options(*, confirm: bool = False) -> Callable[[F], F]:
    """Give a command the options that open the keys; it gets ``keys`` and ``secret``.

    Args:
        confirm: a passphrase that is typed is typed twice, because it encrypts new keys.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_keys(
            *, passphrase_file: Path | None, pkcs11_module: Path | None, pin_file: Path | None, **others: Any
        ) -> Any:
            secret = Unlock(
                passphrase=functools.cache(lambda: _passphrase(passphrase_file, confirm=confirm)),
                module=pkcs11_module,
                pin=functools.cache(lambda token: _pin(pin_file, token)),
            )
            return function(secret=secret, **others)

        options = (
            click.option("--keys", type=FOLDER, required=True, help="Folder of the keys."),
            click.option(
                "--passphrase-file",
                type=FILE,
                envvar="VMGATE_PASSPHRASE_FILE",
                help="Holds the passphrase of the key files; else it is asked.",
            ),
            click.option(
                "--pkcs11-module",
                type=FILE,
                envvar="VMGATE_PKCS11_MODULE",
                help="The library that speaks to a hardware token.",
            ),
            click.option(
                "--pin-file", type=FILE, envvar="VMGATE_PIN_FILE", help="Holds the token's PIN; else it is asked."
            ),
        )
        command: Any = with_keys
        for option in reversed(options):
            command = option(command)
        return command  # type: ignore[no-any-return]

    return decorate


def _passphrase(file: Path | None, *, confirm: bool) -> bytes:
    return _secret(file, "Passphrase of the keys", "passphrase", confirm=confirm)


def _pin(file: Path | None, token: str) -> str:
    try:
        return _secret(file, f"PIN of the token {token}", "pin", confirm=False).decode()
    except UnicodeDecodeError as error:
        raise UsageError("the keys were not opened", cause=f"{file} holds no PIN", remedy="correct it") from error


def _secret(file: Path | None, prompt: str, kind: str, *, confirm: bool) -> bytes:
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "the keys were not opened",
                cause=f"there is no terminal to ask for the {kind}",
                remedy=f"give --{kind}-file",
            )
        typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return typed.encode()
    from content.durable import read_file

    found = read_file(file, MAX_SECRET).rstrip(b"\n")
    if not found:
        raise UsageError("the keys were not opened", cause=f"{file} is empty", remedy=f"write the {kind} into it")
    return found
