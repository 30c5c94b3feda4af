# SPDX-License-Identifier: Apache-2.0
"""Who a host's TPM says that it is, and what a verifier asks to have that proven.

Nothing in either is trusted: a certificate is worth something after ``measure.ek_path``, and that one TPM holds both
keys is shown by the answer to a challenge alone (``measure.proof``). This module does not look inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import Fields, encode_bytes

CERTIFICATE_LIMIT = 16_384
"""Most bytes of a certificate, with what stands around it in the TPM's memory."""

CHAIN_LIMIT = 65_536
KEY_LIMIT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """One endorsement key.

    Attributes:
        public: TPMT_PUBLIC.
        certificate: as it lies in the TPM's memory; empty where there is none.
    """

    public: bytes
    certificate: bytes

    @classmethod
    def read(cls, untrusted: Json) -> EndorsementKey:
        """Read one key."""
        fields = Fields(untrusted, "endorsement key")
        key = cls(
            public=fields.take_bytes("public", KEY_LIMIT),
            certificate=fields.take_bytes("certificate", CERTIFICATE_LIMIT),
        )
        fields.finish()
        return key

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"public": encode_bytes(self.public), "certificate": encode_bytes(self.certificate)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Document):
    """What a host shows to be known by.

    Attributes:
        eks: its endorsement keys, the first one preferred.
        chain: issuers' certificates that the TPM's vendor left in it, one after the other; empty for none.
        ak: TPMT_PUBLIC of its attestation key.
    """

    TYPE: ClassVar[str] = "vmgate.identity"
    LIMIT: ClassVar[int] = 150_000

    eks: tuple[EndorsementKey, ...]
    chain: bytes
    ak: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            eks=fields.take_list("eks", EndorsementKey.read, 2),
            chain=fields.take_bytes("chain", CHAIN_LIMIT),
            ak=fields.take_bytes("ak", KEY_LIMIT),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "eks": [key.members() for key in self.eks],
            "chain": encode_bytes(self.chain),
            "ak": encode_bytes(self.ak),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Document):
    """A secret that one TPM alone can open (TPM 2.0 Library Part 1, clause 24). It holds nothing that must be hidden.

    Attributes:
        ek: TPMT_PUBLIC of the endorsement key for which it was made.
        ak_name: the TPM's name of the attestation key, 34 bytes.
        credential: TPM2B_ID_OBJECT.
        seed: TPM2B_ENCRYPTED_SECRET.
    """

    TYPE: ClassVar[str] = "vmgate.challenge"
    LIMIT: ClassVar[int] = 4_000

    ek: bytes
    ak_name: bytes
    credential: bytes
    seed: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            ek=fields.take_bytes("ek", KEY_LIMIT),
            ak_name=fields.take_bytes("ak_name", 34),
            credential=fields.take_bytes("credential", 150),
            seed=fields.take_bytes("seed", 300),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "ek": encode_bytes(self.ek),
            "ak_name": encode_bytes(self.ak_name),
            "credential": encode_bytes(self.credential),
            "seed": encode_bytes(self.seed),
        }
