# SPDX-License-Identifier: Apache-2.0
"""What a fleet tells its hosts, and the audit records that they bring.

Evidence travels as the document that it is (``documents.evidence``). Nothing here is trusted for standing here. This
module does no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.audit import AuditRecord, SignedHead
from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields, encode_bytes
from documents.host_state import PurposeKey

STATUSES = ("affirming", "warning", "contraindicated", "none")
LEVELS = ("L0", "L1", "L2")
NONCE_LIMIT = 64
TOKEN_LIMIT = 1_000_000
"""Characters of an attestation result (``measure.ear``)."""

BATCH = 200
"""Most audit records in one upload."""

_CODE = re.compile(r"[A-Z]{2}[0-9]{3}")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceGrant(Document):
    """Something to answer, once and soon.

    Attributes:
        nonce: at least 16 bytes.
        time: the fleet's, in seconds since 1970 UTC: a host whose clock is wrong learns it here.
    """

    TYPE: ClassVar[str] = "vmgate.nonce"
    LIMIT: ClassVar[int] = 1_000

    nonce: bytes
    time: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(nonce=fields.take_bytes("nonce", NONCE_LIMIT), time=fields.take_int("time", 0, 2**40))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"nonce": encode_bytes(self.nonce), "time": self.time}


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised(Document):
    """What the fleet found of a host.

    Attributes:
        status: one of ``STATUSES``.
        level: assurance level.
        time: of the appraisal, in seconds since 1970 UTC.
        expires: when it must no longer be relied on.
        result: the EAR as a signed JWT.
    """

    TYPE: ClassVar[str] = "vmgate.appraised"
    LIMIT: ClassVar[int] = 1_010_000

    status: str
    level: str
    time: int
    expires: int
    result: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            status=fields.take_choice("status", STATUSES),
            level=fields.take_choice("level", LEVELS),
            time=fields.take_int("time", 0, 2**40),
            expires=fields.take_int("expires", 1, 2**41),
            result=fields.take_text("result", _JWT, TOKEN_LIMIT),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "status": self.status,
            "level": self.level,
            "time": self.time,
            "expires": self.expires,
            "result": self.result,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditUpload(Document):
    """Records of a host's trail, in their order and without a gap.

    Attributes:
        records: each a ``vmgate.audit`` as it lies in the trail.
        head: the newest signed head, a ``vmgate.audit-head``; empty where none was signed.
        key: the audit key with its certification, a ``vmgate.purpose-key`` whose private part is left out; empty where
            there is no head.
    """

    TYPE: ClassVar[str] = "vmgate.audit-upload"
    LIMIT: ClassVar[int] = 4_000_000

    records: tuple[bytes, ...]
    head: bytes
    key: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def record(untrusted: Json) -> bytes:
            item = Fields({"record": untrusted}, "audit upload")
            return item.take_bytes("record", AuditRecord.LIMIT)

        return cls(
            records=fields.take_list("records", record, BATCH),
            head=fields.take_bytes("head", SignedHead.LIMIT),
            key=fields.take_bytes("key", PurposeKey.LIMIT),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "records": [encode_bytes(record) for record in self.records],
            "head": encode_bytes(self.head),
            "key": encode_bytes(self.key),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReceipt(Document):
    """How far the fleet has a host's trail.

    Attributes:
        sequence: of the last record that it has; 0 for none.
        hash: of that record, ``documents.audit.GENESIS`` for none.
        signed: sequence of the newest head that the host's TPM signed; 0 for none.
    """

    TYPE: ClassVar[str] = "vmgate.audit-receipt"
    LIMIT: ClassVar[int] = 1_000

    sequence: int
    hash: str
    signed: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            sequence=fields.take_int("sequence", 0, 2**60),
            hash=fields.take_digest("hash"),
            signed=fields.take_int("signed", 0, 2**60),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"sequence": self.sequence, "hash": self.hash, "signed": self.signed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Document):
    """That the fleet did not do what it was asked.

    Attributes:
        code: of the error, which ``vmgate explain`` takes.
        error: what, cause and remedy in one line.
        exit: the exit code that goes with it.
    """

    TYPE: ClassVar[str] = "vmgate.refusal"
    LIMIT: ClassVar[int] = 10_000

    code: str
    error: str
    exit: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            code=fields.take_text("code", _CODE, 5),
            error=fields.take_text("error", limit=2_000),
            exit=fields.take_int("exit", 1, 255),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"code": self.code, "error": self.error, "exit": self.exit}
