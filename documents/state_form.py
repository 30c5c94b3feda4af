# SPDX-License-Identifier: Apache-2.0
"""Which form the state of a host is in: a number for all of its files together. Does no I/O.

Each file has a version of its own as well. The form says what no single file can: which members and files there may be,
so that state can be taken forward, and back to what an earlier vmgate reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields

HIGHEST = 1_000
MOST_BUILDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StateForm(Document):
    """The form of a host's state.

    Attributes:
        form: its number.
        builds: (digest of ``vmgate/build``, form that this vmgate writes), the newest last, each build once.
    """

    TYPE: ClassVar[str] = "vmgate.state-form"
    LIMIT: ClassVar[int] = 4_000

    form: int
    builds: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def build(untrusted: Json) -> tuple[str, int]:
            item = Fields(untrusted, "build")
            pair = (item.take_digest("build"), item.take_int("form", 1, HIGHEST))
            item.finish()
            return pair

        form = cls(form=fields.take_int("form", 1, HIGHEST), builds=fields.take_list("builds", build, MOST_BUILDS))
        fields.require_distinct("builds", [digest for digest, _ in form.builds])
        return form

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"form": self.form, "builds": [{"build": digest, "form": form} for digest, form in self.builds]}

    def written_by(self, build: str) -> int | None:
        """The form that a build of vmgate writes; None for one that was never seen here."""
        return dict(self.builds).get(build)
