# SPDX-License-Identifier: Apache-2.0
"""The baseline of a host: what is local to it, as its administrator approved it.

It is signed by a key of the host's TPM for this purpose, which works only in states that the publisher signed. It
says what a host's own things are; it can never take the place of a publisher's value. This module verifies no signature
(``measure.baseline`` does) and judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import SLASHED, Fields, encode_bytes
from documents.release import MAX_NUMBER, PolicyKey

MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline(Document):
    """What was approved; these bytes are signed.

    Attributes:
        sequence: 1 for a host's first, then one more each: an older one can be told.
        time: seconds since 1970 UTC.
        actor: who approved, as the audit trail names them.
        channel: platform channel that was active then.
        number: of its release.
        entries: (subject, digest) as measured events name them, sorted by subject.
    """

    TYPE: ClassVar[str] = "vmgate.baseline"
    LIMIT: ClassVar[int] = 20_000

    sequence: int
    time: int
    actor: str
    channel: str
    number: int
    entries: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        baseline = cls(
            sequence=fields.take_int("sequence", 1, 2**60),
            time=fields.take_int("time", 0, 2**40),
            actor=fields.take_text("actor", limit=120),
            channel=fields.take_name("channel"),
            number=fields.take_int("number", 1, MAX_NUMBER),
            entries=fields.take_list("entries", _read_entry, MAX_ENTRIES),
        )
        subjects = [subject for subject, _ in baseline.entries]
        if not subjects or subjects != sorted(set(subjects)):
            raise fields.wrong("entries", "is empty or not sorted by subject")
        return baseline

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "sequence": self.sequence,
            "time": self.time,
            "actor": self.actor,
            "channel": self.channel,
            "number": self.number,
            "entries": encode_entries(self.entries),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBaseline(Document):
    """A baseline with all that a verifier needs who knows the host's attestation key. Holds no secret.

    Attributes:
        baseline: the bytes of a ``Baseline``.
        signature: TPMT_SIGNATURE over them.
        public: TPMT_PUBLIC of the key that signed.
        channel: platform channel whose policies allow the key's use.
        key: the policy key whose policies do.
        attest: TPMS_ATTEST by which the attestation key certifies the key.
        certification: TPMT_SIGNATURE over ``attest``.
    """

    TYPE: ClassVar[str] = "vmgate.signed-baseline"
    LIMIT: ClassVar[int] = 40_000

    baseline: bytes
    signature: bytes
    public: bytes
    channel: str
    key: PolicyKey
    attest: bytes
    certification: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            baseline=fields.take_bytes("baseline", Baseline.LIMIT),
            signature=fields.take_bytes("signature", 1_000),
            public=fields.take_bytes("public", 1_000),
            channel=fields.take_name("channel"),
            key=PolicyKey.read(fields.take("key")),
            attest=fields.take_bytes("attest", 2_000),
            certification=fields.take_bytes("certification", 1_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "baseline": encode_bytes(self.baseline),
            "signature": encode_bytes(self.signature),
            "public": encode_bytes(self.public),
            "channel": self.channel,
            "key": self.key.members(),
            "attest": encode_bytes(self.attest),
            "certification": encode_bytes(self.certification),
        }


def encode_entries(entries: tuple[tuple[str, str], ...]) -> list[Json]:
    """Entries as documents hold them."""
    return [{"subject": subject, "fsverity": digest} for subject, digest in entries]


def _read_entry(untrusted: Json) -> tuple[str, str]:
    fields = Fields(untrusted, "baseline entry")
    pair = (fields.take_text("subject", SLASHED, 120), fields.take_digest("fsverity"))
    fields.finish()
    return pair
