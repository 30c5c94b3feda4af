# SPDX-License-Identifier: Apache-2.0
"""How a host joins a fleet: two questions and two answers, and what the host keeps of it.

The host shows a token and its TPM's identity and gets a challenge; it answers with a request key which its attestation
key certifies over the challenge's answer, and gets its place. Nothing here is trusted for standing here: ``fleet``
verifies what a host says, and a host believes the fleet because of its TLS certificate. This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import NAME, UUID, Fields, encode_bytes
from documents.identity import KEY_LIMIT, Challenge, Identity

STATES = ("pending", "active")
"""What a host may become by enrolling: one that waits for an administrator, or one that may attest."""

TICKET_LIMIT = 200
CA_LIMIT = 100_000
"""Bytes of certificates in PEM, by which a host knows its fleet."""

SECONDS = (30, 86_400)
"""Between two attestations: fewest and most."""

URL_LIMIT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest(Document):
    """A host asks to join.

    Attributes:
        token: 32 random bytes, hexadecimal, that an administrator handed over.
        identity: a ``vmgate.identity``.
    """

    TYPE: ClassVar[str] = "vmgate.enrolment-request"
    LIMIT: ClassVar[int] = 210_000

    token: str
    identity: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(token=fields.take_digest("token"), identity=fields.take_bytes("identity", Identity.LIMIT))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"token": self.token, "identity": encode_bytes(self.identity)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentOffer(Document):
    """What the fleet asks in return.

    Attributes:
        fleet: its name.
        ticket: to bring back; it says nothing to the host.
        challenge: a ``vmgate.challenge``.
    """

    TYPE: ClassVar[str] = "vmgate.enrolment-offer"
    LIMIT: ClassVar[int] = 8_000

    fleet: str
    ticket: bytes
    challenge: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            fleet=fields.take_name("fleet"),
            ticket=fields.take_bytes("ticket", TICKET_LIMIT),
            challenge=fields.take_bytes("challenge", Challenge.LIMIT),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "fleet": self.fleet,
            "ticket": encode_bytes(self.ticket),
            "challenge": encode_bytes(self.challenge),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentProof(Document):
    """The host's answer: who opened the challenge holds the request key.

    Attributes:
        token: the same again.
        ticket: of the offer.
        identity: a ``vmgate.identity`` with the endorsement key that was asked.
        key: TPMT_PUBLIC of the request key.
        attest: TPMS_ATTEST by which the attestation key certifies it, over the answer to the challenge.
        signature: TPMT_SIGNATURE over ``attest``.
        name: what the host would like to be called; empty where it does not mind.
    """

    TYPE: ClassVar[str] = "vmgate.enrolment-proof"
    LIMIT: ClassVar[int] = 220_000

    token: str
    ticket: bytes
    identity: bytes
    key: bytes
    attest: bytes
    signature: bytes
    name: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            token=fields.take_digest("token"),
            ticket=fields.take_bytes("ticket", TICKET_LIMIT),
            identity=fields.take_bytes("identity", Identity.LIMIT),
            key=fields.take_bytes("key", KEY_LIMIT),
            attest=fields.take_bytes("attest", 2_000),
            signature=fields.take_bytes("signature", 1_000),
            name=fields.take_text("name", NAME, 63, empty=True),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "token": self.token,
            "ticket": encode_bytes(self.ticket),
            "identity": encode_bytes(self.identity),
            "key": encode_bytes(self.key),
            "attest": encode_bytes(self.attest),
            "signature": encode_bytes(self.signature),
            "name": self.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled(Document):
    """The host's place in the fleet.

    Attributes:
        fleet: the fleet's name.
        host: the fleet's id of this host.
        name: what the fleet calls it.
        state: one of ``STATES``.
        result_key: public key of the fleet's results, SubjectPublicKeyInfo in PEM.
        interval: seconds between two attestations.
    """

    TYPE: ClassVar[str] = "vmgate.enrolled"
    LIMIT: ClassVar[int] = 4_000

    fleet: str
    host: str
    name: str
    state: str
    result_key: bytes
    interval: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            fleet=fields.take_name("fleet"),
            host=fields.take_text("host", UUID, 36),
            name=fields.take_name("name"),
            state=fields.take_choice("state", STATES),
            result_key=fields.take_bytes("result_key", 1_000),
            interval=fields.take_int("interval", *SECONDS),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "fleet": self.fleet,
            "host": self.host,
            "name": self.name,
            "state": self.state,
            "result_key": encode_bytes(self.result_key),
            "interval": self.interval,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(Document):
    """What a host keeps of the fleet that it belongs to. Holds no secret in the clear.

    Attributes:
        url: where the fleet answers, ``https`` and without a path.
        ca: certificates in PEM that alone are believed of it.
        enrolled: a ``vmgate.enrolled``, as the fleet said it.
        public: TPM2B_PUBLIC of the request key.
        private: TPM2B_PRIVATE of it; encrypted by the TPM.
    """

    TYPE: ClassVar[str] = "vmgate.fleet-membership"
    LIMIT: ClassVar[int] = 150_000

    url: str
    ca: bytes
    enrolled: bytes
    public: bytes
    private: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            url=fields.take_text("url", limit=URL_LIMIT),
            ca=fields.take_bytes("ca", CA_LIMIT),
            enrolled=fields.take_bytes("enrolled", Enrolled.LIMIT),
            public=fields.take_bytes("public", 2_000),
            private=fields.take_bytes("private", 2_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "url": self.url,
            "ca": encode_bytes(self.ca),
            "enrolled": encode_bytes(self.enrolled),
            "public": encode_bytes(self.public),
            "private": encode_bytes(self.private),
        }
