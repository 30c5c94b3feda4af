# SPDX-License-Identifier: Apache-2.0
"""What commands and the libvirt hook say to the agent over its Unix socket: one request, one response.

On the wire each is its canonical bytes and a line end. The hook imports nothing of ours and writes the same bytes by
hand. This module does not open sockets (``agent.server`` and ``agent.client`` do).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.errors import Exit
from documents.fields import SLASHED, Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Document):
    """One call.

    Attributes:
        verb: such as ``vm/start``.
        arguments: texts by name.
        actor: who asks, as the caller says; the agent adds the caller's user id, which the kernel vouches for.
    """

    TYPE: ClassVar[str] = "vmgate.request"
    LIMIT: ClassVar[int] = 1_000_000

    verb: str
    arguments: tuple[tuple[str, str], ...]
    actor: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        request = cls(
            verb=fields.take_text("verb", SLASHED, 60),
            arguments=fields.take_list("arguments", _read_argument, 16),
            actor=fields.take_text("actor", limit=60),
        )
        names = [name for name, _ in request.arguments]
        if names != sorted(set(names)):
            raise fields.wrong("arguments", "is not sorted by name")
        return request

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "verb": self.verb,
            "arguments": [{"name": name, "text": text} for name, text in self.arguments],
            "actor": self.actor,
        }


def _read_argument(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "argument")
    name = fields.take_text("name", SLASHED, 60)
    text = fields.take("text")
    if not isinstance(text, str):
        raise fields.wrong("text", "is not a text")
    fields.finish()
    return name, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Document):
    """The answer to one call.

    Attributes:
        exit: exit code of the command that asked.
        error: the one line for the user; empty when ``exit`` is 0.
        result: the answer as an object; empty on an error.
    """

    TYPE: ClassVar[str] = "vmgate.response"
    LIMIT: ClassVar[int] = 128_000_000

    exit: int
    error: str
    result: dict[str, Json]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        result = fields.take("result")
        response = cls(
            exit=fields.take_int("exit", 0, 255),
            error=fields.take_text("error", limit=4_000, empty=True),
            result=result if isinstance(result, dict) else {},
        )
        if not isinstance(result, dict):
            raise fields.wrong("result", "is not an object")
        if response.exit not in {int(code) for code in Exit} or (response.exit == 0) != (response.error == ""):
            raise fields.wrong("exit", "does not fit the error")
        return response

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"exit": self.exit, "error": self.error, "result": self.result}
