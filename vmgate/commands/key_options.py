# SPDX-License-Identifier: Apache-2.0
"""The options by which the publisher's commands come by keys. Secrets are asked for only when a key needs one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keys.tpm import SigningTpm
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

_tcti = click.option(
    "--tcti", envvar="VMGATE_TCTI", default="", help="How to reach the TPM that has keys, such as device:/dev/tpmrm0."
)
# No environment variable: what says where keys are must not decide where new ones are made.
_new_in_tpm = click.option("--tpm", "tcti", metavar="TCTI", default="", help="Make it in this TPM, under a new PIN.")


def keys_options(*, confirm: bool = False, making: bool = False) -> Callable[[F], F]:
    """Give a command the options that open the keys; it gets ``keys`` and ``secret``.

    Args:
        confirm: a passphrase that is typed is typed twice, because it encrypts new keys.
        making: the command makes a key, in a TPM only if that is named on its own command line; a PIN is typed twice.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_keys(
            *,
            passphrase_file: Path | None,
            pkcs11_module: Path | None,
            pin_file: Path | None,
            tcti: str,
            **others: Any,
        ) -> Any:
            secret = Unlock(
                passphrase=functools.cache(lambda: _passphrase(passphrase_file, confirm=confirm)),
                module=pkcs11_module,
                pin=functools.cache(lambda holder: _pin(pin_file, holder, confirm=making)),
                tcti=tcti,
                tpm=_tpm,
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
                "--pin-file",
                type=FILE,
                envvar="VMGATE_PIN_FILE",
                help="Holds the PIN of a token, or of a key in a TPM; else it is asked.",
            ),
            _new_in_tpm if making else _tcti,
        )
        command: Any = with_keys
        for option in reversed(options):
            command = option(command)
        return command  # type: ignore[no-any-return]

    return decorate


def passphrase_option(*, confirm: bool = False) -> Callable[[F], F]:
    """Give a command ``passphrase``, which asks for that of one key file, or reads it, when it is called.

    Args:
        confirm: what is typed is typed twice, because it encrypts a new key.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_passphrase(*, passphrase_file: Path | None, **others: Any) -> Any:
            def passphrase() -> bytes:
                return _secret(passphrase_file, "Passphrase of the key", "passphrase", confirm=confirm)

            return function(passphrase=passphrase, **others)

        option = click.option(
            "--passphrase-file", type=FILE, help="Holds the passphrase of the key's file; else it is asked."
        )
        return option(with_passphrase)  # type: ignore[return-value]

    return decorate


def _tpm(tcti: str) -> SigningTpm:
    from measure.tpm_keys import TpmKeys

    return TpmKeys(tcti)


def _passphrase(file: Path | None, *, confirm: bool) -> bytes:
    return _secret(file, "Passphrase of the keys", "passphrase", confirm=confirm)


def _pin(file: Path | None, holder: str, *, confirm: bool) -> str:
    try:
        return _secret(file, f"PIN of {holder}", "pin", confirm=confirm).decode()
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
