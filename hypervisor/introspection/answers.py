# SPDX-License-Identifier: Apache-2.0
"""What the confined process answers, read as what it is: the words of somebody whom a guest may have taken over.

Each view has a strict form with bounds. That it is true is not said: nobody but the guest knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from documents.canonical import Json, decode
from documents.errors import DocumentError
from documents.fields import HEX_SHA256, Fields
from hypervisor.errors import (
    CoreMalformed,
    IntrospectionError,
    KernelMissing,
    MemoryUnreadable,
    ReaderFailed,
    TypesMalformed,
)
from hypervisor.introspection.elsewhere import MAX_MODULES, MAX_TASKS

LIMIT = 8 * 1024 * 1024
"""Bytes of an answer; 65,537 tasks take some 6 MB."""
MAX_PAGES = 2 * 16_384
"""Pages of one region of a kernel."""
VIEWS = ("tasks", "modules", "integrity")
REMEDY = "try again, and look at the guest if it stays"
ENDS = ("whole", "loop", "broken", "bound")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_ADDRESS = re.compile(r"[0-9a-f]{1,16}")
_TARGET = re.compile(r"[0-9]{1,4}:[0-9a-f]{1,16}")
_ERRORS: dict[str, type[IntrospectionError]] = {
    error.code: error for error in (CoreMalformed, MemoryUnreadable, KernelMissing, TypesMalformed)
}


def read_answer(untrusted: bytes, view: str) -> dict[str, Json]:
    """One view, member by member.

    Args:
        untrusted: what the process wrote.
        view: what was asked for.

    Raises:
        ReaderFailed: it has another form.
        IntrospectionError: the process says why it could not read the guest.
    """
    try:
        fields = Fields(decode(untrusted, LIMIT, "view of a guest"), "view of a guest")
        if fields.has("error"):
            raise _told(fields)
        members: dict[str, Json] = {
            "view": fields.take_choice("view", (view,)),
            "btf": fields.take_text("btf", HEX_SHA256, 64),
            **_READERS[view](fields),
        }
        fields.finish()
    except DocumentError as error:
        raise failed(error.cause) from error
    return members


def failed(cause: str) -> ReaderFailed:
    """The error for a process that did not do what it is for."""
    return ReaderFailed("the guest's memory was not read", cause=cause, remedy=REMEDY)


def _told(fields: Fields) -> IntrospectionError:
    kind = fields.take_choice("error", _ERRORS)
    cause = fields.take_text("cause", _PRINTABLE, 300)
    fields.finish()
    return _ERRORS[kind]("the guest's memory was not read", cause=cause, remedy=REMEDY)


def _list(name: str, item: Callable[[Fields], dict[str, Json]], most: int) -> Callable[[Fields], dict[str, Json]]:
    def one(untrusted: Json) -> dict[str, Json]:
        fields = Fields(untrusted, name)
        members = item(fields)
        fields.finish()
        return members

    def read(fields: Fields) -> dict[str, Json]:
        return {
            name: [*fields.take_list(name, one, most)],
            "ended": fields.take_choice("ended", ENDS),
            "compared": fields.take_bool("compared"),
        }

    return read


def _task(fields: Fields) -> dict[str, Json]:
    return {
        "pid": fields.take_int("pid", 0, 2**32 - 1),
        "uid": fields.take_int("uid", 0, 2**32 - 1),
        "kernel": fields.take_bool("kernel"),
        "listed": fields.take_bool("listed"),
        "name": fields.take_text("name", _PRINTABLE, 16, empty=True),
    }


def _module(fields: Fields) -> dict[str, Json]:
    return {
        "name": fields.take_text("name", _PRINTABLE, 56, empty=True),
        "state": fields.take_int("state", 0, 2**32 - 1),
        "listed": fields.take_bool("listed"),
    }


def _integrity(fields: Fields) -> dict[str, Json]:
    return {
        "base": fields.take_text("base", _ADDRESS, 16),
        "text": _region(fields.take("text")),
        "rodata": _region(fields.take("rodata")),
        "syscalls": _targets(fields.take("syscalls")),
        "interrupts": _targets(fields.take("interrupts"), early=True),
    }


def _region(untrusted: Json) -> dict[str, Json]:
    fields = Fields(untrusted, "region")
    members: dict[str, Json] = {
        "start": fields.take_text("start", _ADDRESS, 16),
        "pages": [*fields.take_list("pages", _spelled(HEX_SHA256), MAX_PAGES)],
    }
    fields.finish()
    return members


def _targets(untrusted: Json, *, early: bool = False) -> dict[str, Json]:
    fields = Fields(untrusted, "targets")
    members: dict[str, Json] = {
        "count": fields.take_int("count", 0, 1_000_000),
        "outside": [*fields.take_list("outside", _spelled(_TARGET), 1_000)],
        **({"early": fields.take_int("early", 0, 1_000_000)} if early else {}),
    }
    fields.finish()
    return members


def _spelled(pattern: re.Pattern[str]) -> Callable[[Json], str]:
    """An item of a list that may repeat itself."""

    def item(untrusted: Json) -> str:
        return Fields({"item": untrusted}, "list").take_text("item", pattern, 64)

    return item


_READERS: dict[str, Callable[[Fields], dict[str, Json]]] = {
    # What is in a list, and what is only known elsewhere, where a tree can have twice as many nodes.
    "tasks": _list("tasks", _task, 2 * MAX_TASKS + 1),
    "modules": _list("modules", _module, 3 * MAX_MODULES),
    "integrity": _integrity,
}
