# SPDX-License-Identifier: Apache-2.0
"""The state that a host keeps on its disk: which releases are active, where an update stands, and its sealed key.

Each carries a version; one written by a newer vmgate is refused (``DocumentNewer``). This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self

from documents.canonical import Json
from documents.definition import GUARDIANS
from documents.document import Document
from documents.fields import UUID, Fields, encode_bytes
from documents.release import COORDINATE, MAX_NUMBER, PolicyKey, Release
from documents.sealed import MAX_AHEAD, SealedAhead, SealedFloor, read_releases, written

UPDATE_STATES = ("idle", "fetched", "verified", "staged", "switched", "confirmed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Document):
    """The releases that are active together.

    Attributes:
        number: grows by one with each switch.
        releases: the release documents as signed, one a channel, sorted by channel.
        stale: the metadata had expired when this was imported, and the release or an administrator allowed it.
    """

    TYPE: ClassVar[str] = "vmgate.generation"
    LIMIT: ClassVar[int] = 32_000_000

    number: int
    releases: tuple[bytes, ...]
    stale: bool

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""

        def release(untrusted: Json) -> bytes:
            item = Fields({"release": untrusted}, "generation")
            return item.take_bytes("release", Release.LIMIT)

        generation = cls(
            number=fields.take_int("number", 1, MAX_NUMBER),
            releases=fields.take_list("releases", release, 16),
            stale=fields.take_bool("stale"),
        )
        channels = [parsed.channel for parsed in generation.parsed()]
        if not channels or channels != sorted(set(channels)):
            raise fields.wrong("releases", "is empty or not sorted by channel")
        if sum(parsed.authority == "platform" for parsed in generation.parsed()) != 1:
            raise fields.wrong("releases", "does not hold exactly one platform release")
        return generation

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "number": self.number,
            "releases": [encode_bytes(release) for release in self.releases],
            "stale": self.stale,
        }

    def parsed(self) -> tuple[Release, ...]:
        """The releases, parsed."""
        return tuple(_parsed(release) for release in self.releases)

    @property
    def platform(self) -> Release:
        """The platform release."""
        return next(release for release in self.parsed() if release.authority == "platform")

    @property
    def workloads(self) -> tuple[Release, ...]:
        """The workload releases."""
        return tuple(release for release in self.parsed() if release.authority == "workload")


@lru_cache(maxsize=32)
def _parsed(release: bytes) -> Release:
    """A release never changes once it is parsed, and one start asks for the same few some twenty times."""
    return Release.parse(release)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateJournal(Document):
    """Where the update of this host stands.

    Attributes:
        state: one of ``UPDATE_STATES``.
        generation: the generation that is on its way or, when idle or confirmed, active; 0 for none yet.
        previous: the generation to go back to; 0 for none.
        refused: digests of generations' releases that failed on this host and are not offered again on their own.
    """

    TYPE: ClassVar[str] = "vmgate.update-journal"
    LIMIT: ClassVar[int] = 100_000

    state: str
    generation: int
    previous: int
    refused: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            state=fields.take_choice("state", UPDATE_STATES),
            generation=fields.take_int("generation", 0, MAX_NUMBER),
            previous=fields.take_int("previous", 0, MAX_NUMBER),
            refused=fields.take_texts("refused", COORDINATE, 1_000, 64),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "state": self.state,
            "generation": self.generation,
            "previous": self.previous,
            "refused": list(self.refused),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor(Document):
    """The lowest versions and time that this host still accepts; it only rises (rollback protection).

    Attributes:
        time: latest time known from signed metadata or a successful refresh, in seconds since 1970 UTC.
        root: version of the TUF root.
        releases: (channel, lowest number) sorted by channel.
    """

    TYPE: ClassVar[str] = "vmgate.floor"
    LIMIT: ClassVar[int] = 10_000

    time: int
    root: int
    releases: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            time=fields.take_int("time", 0, 2**40),
            root=fields.take_int("root", 1, MAX_NUMBER),
            releases=read_releases(fields),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "time": self.time,
            "root": self.root,
            "releases": written(self.releases),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedKey(Document):
    """The host's key-encryption key, sealed by its TPM. Holds no secret in the clear.

    Attributes:
        public: TPM2B_PUBLIC of the sealed object.
        private: TPM2B_PRIVATE of the sealed object.
        channel: platform channel whose policies open it.
        epoch: security epoch in the policyRef.
        counter: highest value of the host's NV counter at which it opens.
        key: the policy key whose policies open it.
        local_pcrs: further PCRs whose values of then it needs, in ascending order; 7 where Secure Boot is judged.
        ahead: the same key for other values of ``local_pcrs``; absent where there is none.
        floor: sealed with the key by its digest; absent in what an older vmgate sealed.
    """

    TYPE: ClassVar[str] = "vmgate.sealed-key"
    LIMIT: ClassVar[int] = 60_000

    public: bytes
    private: bytes
    channel: str
    epoch: int
    counter: int
    key: PolicyKey
    local_pcrs: tuple[int, ...]
    ahead: tuple[SealedAhead, ...] = ()
    floor: SealedFloor | None = None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        says_ahead = fields.has("ahead")
        sealed = cls(
            public=fields.take_bytes("public", 2_000),
            private=fields.take_bytes("private", 2_000),
            channel=fields.take_name("channel"),
            epoch=fields.take_int("epoch", 1, MAX_NUMBER),
            counter=fields.take_int("counter", 0, 2**62),
            key=PolicyKey.read(fields.take("key")),
            local_pcrs=fields.take_ints("local_pcrs", 0, 23, 24),
            ahead=fields.take_list("ahead", SealedAhead.read, MAX_AHEAD) if says_ahead else (),
            floor=SealedFloor.read(fields.take("floor")) if fields.has("floor") else None,
        )
        if list(sealed.local_pcrs) != sorted(sealed.local_pcrs):
            raise fields.wrong("local_pcrs", "is not in ascending order")
        if says_ahead and not sealed.ahead:
            raise fields.wrong("ahead", "is there and empty")
        if any(tuple(index for index, _ in item.pcrs) != sealed.local_pcrs for item in sealed.ahead):
            raise fields.wrong("ahead", "is not about the local PCRs of the key")
        fields.require_distinct("ahead", [item.pcrs for item in sealed.ahead])
        return sealed

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "public": encode_bytes(self.public),
            "private": encode_bytes(self.private),
            "channel": self.channel,
            "epoch": self.epoch,
            "counter": self.counter,
            "key": self.key.members(),
            "local_pcrs": list(self.local_pcrs),
            **({"ahead": [item.members() for item in self.ahead]} if self.ahead else {}),
            **({"floor": self.floor.members()} if self.floor else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedVmKey(Document):
    """A VM's key, encrypted for one guardian. Holds no secret in the clear.

    Attributes:
        uuid: the VM.
        guardian: ``tpm``: AES-256-GCM under the host's sealed key, with the UUID as associated data. ``recovery``: for
            the holder of a recovery key (``keys.recovery``).
        nonce: 12 bytes.
        ciphertext: key and tag.
        key: id of the recovery key; it and the next two are there for the guardian ``recovery`` alone.
        sender: ephemeral public key, an uncompressed point of P-256 (SEC 1, 2.3.3), 65 bytes.
        check: HMAC-SHA256 that the VM's key makes, by which an opened key is known; says nothing of the key.
    """

    TYPE: ClassVar[str] = "vmgate.vm-key"
    LIMIT: ClassVar[int] = 4_000

    uuid: str
    guardian: str
    nonce: bytes
    ciphertext: bytes
    key: str = ""
    sender: bytes = b""
    check: bytes = b""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        guardian = fields.take_choice("guardian", GUARDIANS)
        recovery = guardian == "recovery"
        key = cls(
            uuid=fields.take_text("uuid", UUID, 36),
            guardian=guardian,
            nonce=fields.take_bytes("nonce", 12),
            ciphertext=fields.take_bytes("ciphertext", 200),
            key=fields.take_digest("key") if recovery else "",
            sender=fields.take_bytes("sender", 65) if recovery else b"",
            check=fields.take_bytes("check", 32) if recovery else b"",
        )
        if len(key.nonce) != 12:
            raise fields.wrong("nonce", "is not 12 bytes")
        if recovery and len(key.sender) != 65:
            raise fields.wrong("sender", "is not 65 bytes")
        if recovery and len(key.check) != 32:
            raise fields.wrong("check", "is not 32 bytes")
        return key

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "uuid": self.uuid,
            "guardian": self.guardian,
            "nonce": encode_bytes(self.nonce),
            "ciphertext": encode_bytes(self.ciphertext),
            **(self._recovery_members() if self.guardian == "recovery" else {}),
        }

    def _recovery_members(self) -> dict[str, Json]:
        return {"key": self.key, "sender": encode_bytes(self.sender), "check": encode_bytes(self.check)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTpm(Document):
    """Which TPM belongs to a VM.

    Attributes:
        uuid: the VM.
        endorsement: SHA-256 of the SubjectPublicKeyInfo (RFC 5280, DER) in the certificate of its endorsement key.
    """

    TYPE: ClassVar[str] = "vmgate.vm-tpm"
    LIMIT: ClassVar[int] = 1_000

    uuid: str
    endorsement: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(uuid=fields.take_text("uuid", UUID, 36), endorsement=fields.take_digest("endorsement"))

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {"uuid": self.uuid, "endorsement": self.endorsement}


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeKey(Document):
    """A signing key of the host's TPM for one purpose, usable only in states that the publisher signed.

    Attributes:
        purpose: ``audit``: signs heads of the audit trail.
        public: TPM2B_PUBLIC.
        private: TPM2B_PRIVATE; encrypted by the TPM, no secret in the clear.
        channel: platform channel whose policies allow its use.
        key: the policy key whose policies allow its use.
        attest: TPMS_ATTEST by which the attestation key certifies it.
        signature: TPMT_SIGNATURE over ``attest``.
    """

    TYPE: ClassVar[str] = "vmgate.purpose-key"
    LIMIT: ClassVar[int] = 20_000

    purpose: str
    public: bytes
    private: bytes
    channel: str
    key: PolicyKey
    attest: bytes
    signature: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            purpose=fields.take_choice("purpose", ("audit",)),
            public=fields.take_bytes("public", 2_000),
            private=fields.take_bytes("private", 2_000),
            channel=fields.take_name("channel"),
            key=PolicyKey.read(fields.take("key")),
            attest=fields.take_bytes("attest", 2_000),
            signature=fields.take_bytes("signature", 1_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "purpose": self.purpose,
            "public": encode_bytes(self.public),
            "private": encode_bytes(self.private),
            "channel": self.channel,
            "key": self.key.members(),
            "attest": encode_bytes(self.attest),
            "signature": encode_bytes(self.signature),
        }
