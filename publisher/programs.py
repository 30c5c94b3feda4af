# SPDX-License-Identifier: Apache-2.0
"""Starting the separate programs that the publisher stands on, by name and never through a shell.

They are separate works under licences of their own and are never imported. This module does not judge what they say.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from publisher.errors import ProgramFailed

SECONDS = 120
"""A hang guard: the slowest of these programs needs about one second."""


def run(
    command: Sequence[str],
    what: str,
    pass_fds: tuple[int, ...] = (),
    seconds: int = SECONDS,
    without: frozenset[str] = frozenset(),
) -> bytes:
    """Run a program to its end.

    Args:
        command: program and arguments.
        what: what will not have happened, for the error.
        pass_fds: descriptors that the program inherits besides the standard ones.
        seconds: after which it is stopped.
        without: variables of our environment that it does not see.

    Returns:
        What it printed.

    Raises:
        ProgramFailed: missing, stopped, or its exit code is not 0.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            pass_fds=pass_fds,
            env={name: value for name, value in os.environ.items() if name not in without},
        )
    except OSError as error:
        raise _missing(command, what, error) from error
    except subprocess.TimeoutExpired as error:
        raise _failed(command, what, f"did not end within {seconds} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _failed(command, what, f"exit {done.returncode}, {said[-1][:200] if said else 'without a word'}")
    return done.stdout


@contextmanager
def output(command: Sequence[str], what: str) -> Iterator[IO[bytes]]:
    """Run a program while its output is being read; at the end of the block it must have ended well.

    Raises:
        ProgramFailed: missing, or its exit code is not 0.
    """
    try:
        # Its messages are thrown away: two pipes could block each other.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise _missing(command, what, error) from error
    stream = process.stdout
    if stream is None:
        raise ValueError("the program has no output")
    try:
        yield stream
    except BaseException:
        process.kill()
        raise
    finally:
        stream.close()
        code = process.wait()
    if code != 0:
        raise _failed(command, what, f"exit {code}")


@contextmanager
def fed(command: Sequence[str], what: str) -> Iterator[IO[bytes]]:
    """Run a program that reads what the block writes; at the end of the block it must end well.

    Raises:
        ProgramFailed: missing, or its exit code is not 0.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise _missing(command, what, error) from error
    stream = process.stdin
    if stream is None:
        raise ValueError("the program has no input")
    try:
        yield stream
        stream.close()
    except BrokenPipeError:
        # It ended without having read all, and its exit code says more than that.
        pass
    except BaseException:
        process.kill()
        raise
    finally:
        with suppress(BrokenPipeError):
            stream.close()
        code = process.wait()
    if code != 0:
        raise _failed(command, what, f"exit {code}")


def _missing(command: Sequence[str], what: str, error: OSError) -> ProgramFailed:
    return ProgramFailed(what, cause=f"{command[0]}: {error.strerror}", remedy=f"install {command[0]}")


def _failed(command: Sequence[str], what: str, cause: str) -> ProgramFailed:
    return ProgramFailed(what, cause=f"{command[0]}: {cause}", remedy="check the files it was given")
